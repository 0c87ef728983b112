"""`python -m mammo`: lists the commands."""

import sys

import mammo
from mammo.config.calls.next_steps import call, ending
from mammo.config.checks import CONF
from mammo.config.help.conf_comments import read_yaml
from mammo.config.schema import COMMANDS


def main() -> None:
    """Print the commands with a line each; refuse arguments."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        print(f"mammo {mammo.__version__}")
        return
    if arguments and arguments[0] not in ("-h", "--help"):
        name = arguments[0] if arguments[0] in COMMANDS else "COMMAND"
        print(f"error: {arguments[0]}: give {call(name)}, one of {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(1)
    calls = {name: call(name) for name in COMMANDS}
    width = max(map(len, calls.values()))
    print("Benign or malignant? Trains and evaluates networks on mammograms.\n")
    for name, text in calls.items():
        head = read_yaml(CONF / f"{name}.yaml")[0].replace("\n", " ")
        print(f"{text:{width}}  {head.partition('. ')[0].partition(' python ')[0].rstrip('.')}")
    train = call("train")
    print(f"\n{ending({}, train, f'{train} --help')}")


if __name__ == "__main__":
    main()
