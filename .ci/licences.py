"""Every dependency's licence is one that lets coreloop be MIT or Apache-2.0; the first that is not fails.

Known vulnerabilities are looked up with cargo-deny or cargo-audit where one is installed and its database can be
had; without either this says so.
"""

import json
import re
import shutil
import subprocess
import sys

ALLOWED = {
    "MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib",
    "Unicode-3.0", "0BSD", "Unlicense", "CC0-1.0", "BSL-1.0", "MIT-0",
}


def is_allowed(expression):
    """An SPDX expression holds if each of its ANDed parts has an allowed alternative."""
    expression = expression.replace("/", " OR ")
    parts = re.split(r"\s+AND\s+", expression.replace("(", " ").replace(")", " ").strip())
    return all(any(one.strip() in ALLOWED for one in re.split(r"\s+OR\s+", part)) for part in parts)


def main():
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    packages = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["packages"]
    refused = [(p["name"], p["version"], p["license"]) for p in packages if not is_allowed(p["license"] or "none")]
    for name, version, licence in refused:
        print(f"{name} {version}: the licence {licence} is not on the list of those allowed")
    print(f"{len(packages)} packages, {len(refused)} with a licence that is not allowed")
    if refused:
        return 1
    if shutil.which("cargo-audit"):
        found = subprocess.run(["cargo", "audit"], capture_output=True, text=True)
        if "error: couldn't fetch" in found.stderr:
            print("the advisory database cannot be had here: known vulnerabilities were not looked up")
        else:
            print(found.stdout, found.stderr)
            return found.returncode
    else:
        print("cargo-audit is not installed: known vulnerabilities were not looked up")
    return 0


sys.exit(main())
