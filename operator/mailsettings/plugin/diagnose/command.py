"""The command line of `diagnose`, which the operator's image has too."""

from typing import Final

from mailsettings import diagnose
from mailsettings.plugin.command import PROGRAM, Command

DIAGNOSE: Final = Command(
    name="diagnose",
    summary=diagnose.SUMMARY,
    description=diagnose.DESCRIPTION,
    epilog=diagnose.EPILOG.format(program=PROGRAM),
    add_arguments=diagnose.add_arguments,
    module="mailsettings.diagnose",
    complain=diagnose.complain,
)
