#!/usr/bin/env python3
"""Lists the public items of the library, one per line, as rustdoc sees them.

`python3 .ci/public_items.py` writes docs/public-items.txt; with `--check` it compares instead, and prints what differs.
Hidden items (`#[doc(hidden)]`), the demo services and what `bench-internals` adds are not public and not listed.
"""

import difflib
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIST = ROOT / "docs" / "public-items.txt"
# A folder of its own: with RUSTC_BOOTSTRAP, cargo would build the dependencies again each time.
TARGET = ROOT / "target" / "public-items"
FEATURES = "full,config-file"
TYPES = {"struct", "enum", "union", "trait", "type_alias"}


def rustdoc():
    """Returns the library's documentation as rustdoc's JSON: an unstable format, of the compiler in use."""
    command = ["cargo", "rustdoc", "-q", "-p", "coreloop", "--lib", "--no-default-features", "--features", FEATURES]
    command += ["--target-dir", str(TARGET), "--", "-Z", "unstable-options", "--output-format", "json"]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "RUSTC_BOOTSTRAP": "1"})
    return json.loads((TARGET / "doc" / "coreloop.json").read_text())


class Listing:
    """Walks the modules from the root; an item that is exported twice is listed under its shortest path."""

    def __init__(self, doc):
        self.index, self.paths = doc["index"], doc["paths"]
        # The shortest path of each item, by its id, and its kind.
        self.found = {}
        self.walk(self.index[str(doc["root"])], "coreloop", set())

    def add(self, ident, kind, path):
        known = self.found.get(ident)
        if known is None or (path.count("::"), path) < (known[1].count("::"), known[1]):
            self.found[ident] = (kind, path)

    def walk(self, module, path, above):
        for ident in map(str, module["inner"]["module"]["items"]):
            self.item(ident, path, above)

    def item(self, ident, path, above, renamed=None):
        item = self.index.get(ident)
        if item is None:
            # Of another crate.
            known = self.paths.get(ident)
            if known is not None:
                self.add(ident, known["kind"], f"{path}::{renamed or known['path'][-1]}")
            return
        kind, inner = next(iter(item["inner"].items()))
        if kind == "use":
            target = str(inner["id"])
            if not inner["is_glob"]:
                self.item(target, path, above, inner["name"])
            elif target in self.index and target not in above:
                target_kind, target_inner = next(iter(self.index[target]["inner"].items()))
                items = target_inner["items"] if target_kind == "module" else target_inner["variants"]
                for each in map(str, items):
                    self.item(each, path, above | {target})
        elif kind == "module":
            if ident not in above:
                self.add(ident, kind, f"{path}::{renamed or item['name']}")
                self.walk(item, f"{path}::{renamed or item['name']}", above | {ident})
        elif kind != "impl" and item["name"]:
            self.add(ident, kind, f"{path}::{renamed or item['name']}")

    def members(self, ident):
        """Returns names of fields, variants, and functions and constants that are not of a trait, of one item."""
        item = self.index.get(ident)
        if item is None:
            return
        kind, inner = next(iter(item["inner"].items()))
        members = []
        if kind == "struct":
            fields = inner["kind"]
            members = fields["plain"]["fields"] if isinstance(fields, dict) and "plain" in fields else []
        elif kind in ("enum", "union"):
            members = inner.get("variants") or inner.get("fields")
        elif kind == "trait":
            members = inner["items"]
        for each in inner.get("impls", []) if kind in ("struct", "enum", "union") else []:
            block = self.index.get(str(each))
            if block is not None and block["inner"]["impl"]["trait"] is None:
                members = [*members, *block["inner"]["impl"]["items"]]
        for each in members:
            member = self.index.get(str(each))
            if member is not None and (member["visibility"] in ("public", "default")):
                yield next(iter(member["inner"])), member["name"]

    def lines(self):
        lines = []
        for ident, (kind, path) in self.found.items():
            lines.append(f"{path} ({kind})")
            lines += {f"{path}::{name} ({kind_of})" for kind_of, name in self.members(ident)}
        return sorted(lines)


def main():
    listing = Listing(rustdoc())
    text = "\n".join(listing.lines()) + "\n"
    types = sum(kind in TYPES for kind, _ in listing.found.values())
    if "--check" in sys.argv[1:]:
        kept = LIST.read_text()
        if kept != text:
            sys.stdout.writelines(
                difflib.unified_diff(kept.splitlines(True), text.splitlines(True), str(LIST), "the library", n=0)
            )
            sys.exit("the public items differ; if that is intended: python3 .ci/public_items.py")
    else:
        LIST.write_text(text)
    print(f"{types} public types, {len(text.splitlines())} public items")


main()
