"""python -m training — sample | fit | export | calibrate | report | publish | build (all of them in turn) | package."""

from training.command_line import main

if __name__ == "__main__":
    main()
