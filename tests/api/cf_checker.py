"""The CF checker without network or system libraries.

    python cf_checker.py answer.nc forecast.nc

cfunits wants libudunits2; where the system has none, the copy inside cf-units serves. The standard names are those that
compliance-checker ships; of area types and regions, which no file of ours names, the tables are empty.
"""

import ctypes.util
import os
import sys
import tempfile
from pathlib import Path

import cf_units
import compliance_checker

EMPTY = (
    '<?xml version="1.0"?><area_type_table><version_number>1</version_number>'
    "<date>2020-01-01T00:00:00Z</date></area_type_table>"
)


def find_units_library() -> None:
    """Let ctypes find udunits2 inside cf-units where the system has none."""
    installed = Path(cf_units.__file__).parent
    search = ctypes.util.find_library
    if search("udunits2") is None:
        own = str(next((installed.parent / "cf_units.libs").glob("libudunits2*")))
        os.environ["UDUNITS2_XML_PATH"] = str(next(installed.glob("etc/share/**/udunits2.xml")))
        ctypes.util.find_library = lambda name: own if name == "udunits2" else search(name)


def main(files: list[str]) -> None:
    """Check each file; the exit status counts the errors."""
    find_units_library()
    from cfchecker.cfchecks import CFChecker

    names = Path(compliance_checker.__file__).parent / "data" / "cf-standard-name-table.xml"
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as empty:
        empty.write(EMPTY)
        empty.flush()
        checker = CFChecker(cfStandardNamesXML=str(names), cfAreaTypesXML=empty.name, cfRegionNamesXML=empty.name)
        for file in files:
            checker.checker(file)
    totals = checker.get_total_counts()
    sys.exit(totals["FATAL"] + totals["ERROR"])


if __name__ == "__main__":
    main(sys.argv[1:])
