"""Where an init script says that it starts."""

from hyperctl.activities.convert.linux.agent import start_levels


def test_runlevels_by_red_hats_and_by_lsbs_comments() -> None:
    assert start_levels("#!/bin/sh\n# chkconfig: 345 85 5\n") == ("345", "85", "05")
    lsb = "### BEGIN INIT INFO\n# Default-Start:     2 3 4 5\n# Default-Stop: 0 1 6\n### END INIT INFO\n"
    assert start_levels(lsb) == ("2345", "01", "01")
    assert start_levels("#!/bin/sh\n") == ("2345", "01", "01")
