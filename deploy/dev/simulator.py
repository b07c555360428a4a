"""Builds the simulated vCenter: `python -m deploy.dev.simulator`."""

from deploy.dev.programme import VCENTER

if __name__ == "__main__":
    print(VCENTER.make())
