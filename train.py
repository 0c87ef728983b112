"""Trains a network: python train.py [group=choice ...] [key=value ...], see conf/train.yaml."""

from mammo.train import main

if __name__ == "__main__":
    main()
