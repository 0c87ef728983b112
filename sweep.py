"""Searches for hyper-parameters: python sweep.py sweep=NAME [key=value ...], see conf/sweep.yaml."""

from mammo.sweep import main

if __name__ == "__main__":
    main()
