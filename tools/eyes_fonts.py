"""Fonts to learn reading from: font packages of Debian, and what each of their faces can set.

    python tools/eyes_fonts.py OUT [--kept DEBS]

Needs `apt-get` and `dpkg-deb`. Copies the fonts of the packages below and writes fonts.json for
`docsearch.finetune.eyes.pages.fonts`: of every face that is used, its family, kind, weight, characters with ink, part
and licence. A family of several weights is used with the two nearest to 400 and 700; what is
narrow is a family of its own. Families of signs only, of mathematics, and of scripts that have to be shaped, are left.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from fontTools.ttLib import TTCollection, TTFont
from PIL import ImageFont

from docsearch.finetune.eyes.pages.fonts import N_CODEPOINTS, to_ranges

NAMES = """
dejavu-core dejavu-extra liberation liberation2 noto-core noto-mono noto-cjk texgyre lmodern linuxlibertine ebgaramond
ebgaramond-extra roboto-unhinted roboto-slab open-sans lato firacode inconsolata jetbrains-mono hack comic-neue
crosextra-carlito crosextra-caladea gfs-didot gfs-neohellenic gfs-artemisia cantarell quicksand freefont-otf urw-base35
sil-charis sil-andika junicode cardo adf-accanthis adf-gillius adf-universalis adf-romande b612 cabin comfortaa
courier-prime fanwood goudybookletter mononoki oldstandard opendyslexic paratype play prociono stix ipafont-gothic
ipafont-mincho wqy-microhei wqy-zenhei arphic-uming vlgothic droid-fallback anonymous-pro vollkorn sil-gentium-basic
fantasque-sans inter clear-sans karla jura go ocr-b cmu dustin sawarabi-mincho essays1743 tiresias dosis
averia-sans-gwf monofur agave
"""
PACKAGES = [f"fonts-{name}" for name in NAMES.split()]
FIRST = "DejaVu Sans"  # what a style of one font takes
HELD_OUT = {  # Carlito is drawn after Lato, so both are
    "EB Garamond", "Vollkorn", "Caladea", "Carlito", "Lato", "Inter", "Cabin", "JetBrains Mono", "Inconsolata",
    "Roboto Slab", "Comic Neue", "Liberation Sans Narrow", "GFS Neohellenic", "Sawarabi Mincho", "WenQuanYi Zen Hei",
}  # fmt: skip
LEFT = re.compile(
    r"Math|Emoji|Symbol|Dingbat|Icons|D050000L|Z003|Chorus|Chancery|Upright|Unslanted|Dunhill|Demi|Variable Width|"
    r"Quotation|Initials|Script|Inline|Swash|Outline|Slanted|Display|Looped|Unjoined|Keyboard|Rhn|Kufi|Nastaliq|"
    r"SignWriting|Caps|CMU Classical|CMU Bright|CMU Concrete|Small|Libertine.* SC|Garamond.* SC|Alternate|08|"
    r"Noto Sans (?!Mono|CJK)|Noto Serif (?!CJK)|Romande ADF Style|Keyfont|Signfont|font Z$|Minus|Balker|Domestic|"
    r"Sharp|El Abogado|Flatline|Holy|It wasn|Junkyard|Mark|Penguin|Progenisis|Swift|Wargames|Winks"
)
MONO = re.compile(r"mono|\bcode\b|typewriter|courier|hack|inconsolata|anonymous|ocr|agave|cursor", re.IGNORECASE)
SERIF = re.compile(
    r"serif|roman|times|garamond|caladea|didot|artemisia|schola|termes|pagella|bonum|bookman|c059|p052|libertine|"
    r"charis|junicode|cardo|accanthis|baskervald|romande|fanwood|goudy|old ?standard|prociono|stix|mincho|ming|"
    r"vollkorn|gentium|essays|song",
    re.IGNORECASE,
)
SLAB = re.compile(r"slab|prestige", re.IGNORECASE)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,:;!?()-/"


def main() -> None:
    """Fetch, copy, describe, choose, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kept", type=Path, help="where downloaded packages are kept and looked for")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    found: dict[tuple[str, bool, bool], list[dict[str, Any]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        kept = options.kept or Path(scratch) / "debs"
        kept.mkdir(parents=True, exist_ok=True)
        for package in PACKAGES:
            licence = copy_package(package, kept, options.out)
            for path in sorted((options.out / package).iterdir()):
                for face in faces(path):
                    entry = describe(path, face)
                    if entry is not None:
                        entry |= {
                            "path": str(path.relative_to(options.out)),
                            "package": package,
                            "licence": licence,
                        }
                        found[entry["family"], entry["bold"], entry["italic"]].append(entry)
    chosen = [
        min(entries, key=lambda entry: abs(entry["weight"] - (700 if key[1] else 400)))
        for key, entries in found.items()
    ]
    regular = {entry["family"] for entry in chosen if not entry["bold"] and not entry["italic"]}
    chosen = sorted(
        (e for e in chosen if e["family"] in regular),
        key=lambda e: (e["family"] != FIRST, e["family"], e["bold"], e["italic"]),
    )
    used = {entry["path"] for entry in chosen}
    for path in options.out.glob("fonts-*/*"):
        if str(path.relative_to(options.out)) not in used:
            path.unlink()
    (options.out / "fonts.json").write_text(json.dumps({"fonts": chosen}, separators=(",", ":")))
    lines = sorted({f"{entry['family']}\t{entry['part']}\t{entry['package']}\t{entry['licence']}" for entry in chosen})
    (options.out / "licences.tsv").write_text("\n".join(["family\tpart\tpackage\tlicences", *lines]) + "\n")
    for part in ("train", "held-out"):
        kinds = Counter(
            entry["kind"] for entry in chosen if entry["part"] == part and (not entry["bold"]) and not entry["italic"]
        )
        print(f"{part}: {sum(kinds.values())} families, {sum(e['part'] == part for e in chosen)} faces; {dict(kinds)}")


def copy_package(package: str, kept: Path, out: Path) -> str:
    """Copy a package's fonts to a folder of its name, and return its licences."""
    if not list(kept.glob(f"{package}_*.deb")):
        subprocess.run(["apt-get", "download", "-q", package], cwd=kept, check=True, stdout=subprocess.DEVNULL)
    (archive,) = kept.glob(f"{package}_*.deb")
    target = out / package
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix.lower() in {".ttf", ".otf", ".ttc"} and path.is_file() and not path.is_symlink():
                shutil.copyfile(path, target / path.name)
        texts = [path.read_text(errors="replace") for path in Path(folder).glob(f"usr/share/doc/{package}/copyright")]
    licences = re.findall(r"^License: *(\S.*)$", "".join(texts), re.MULTILINE)
    return ", ".join(dict.fromkeys(name.strip() for name in licences)) or "see the package's copyright file"


def faces(path: Path) -> list[int]:
    """The faces of a file; of a collection in many languages, that for Japanese and that for simplified Chinese."""
    if path.suffix.lower() != ".ttc":
        return [0]
    names = [font["name"].getBestFamilyName() for font in TTCollection(path).fonts]
    return [
        at
        for at, name in enumerate(names)
        if not name.endswith((" KR", " TC", " HK", " TW", "MBE")) and "Mono" not in name
    ]


def describe(path: Path, face: int) -> dict[str, Any] | None:
    """What fonts.json says about a face, None for one that is left."""
    font = TTFont(path, fontNumber=face, lazy=True)
    name, style = font["name"].getBestFamilyName() or "", font["name"].getBestSubFamilyName() or ""
    weight, width = font["OS/2"].usWeightClass, font["OS/2"].usWidthClass
    narrow = re.search(r"Cond(ensed)?|Narrow", f"{name} {style}")
    family = re.sub(
        r"(?<=LM )(\w+) 10", r"\1", re.sub(r" (Thin|Light|Medium|Black|Bold|Hairline|Semibold|Regular|12)\b", "", name)
    )
    if (narrow or width < 5) and "Narrow" not in family and "Cond" not in family:
        family += " Condensed"
    if LEFT.search(name) or LEFT.search(style):
        return None
    bold = weight >= 600 or "Bold" in style
    if abs(weight - (700 if bold else 400)) > 150:
        return None
    slanted = bool(re.search(r"Italic|Oblique|Slanted", style, re.IGNORECASE))
    opened = ImageFont.truetype(path, 48, index=face, layout_engine=ImageFont.Layout.BASIC)
    has = [number for number, glyph in font.getBestCmap().items() if glyph != ".notdef" and has_ink(opened, number)]
    if not set(map(ord, ALPHABET)) <= set(has):
        return None
    kind = (
        "mono"
        if MONO.search(family)
        else "slab"
        if SLAB.search(family)
        else "sans"
        if "Sans" in family
        else "serif"
        if SERIF.search(family)
        else "sans"
    )
    base = family.removesuffix(" Condensed")
    return {"face": face, "family": family, "kind": kind, "bold": bold, "italic": slanted, "weight": weight,
            "part": "held-out" if any(base.startswith(held) for held in HELD_OUT) else "train",
            "has": to_ranges(has)}  # fmt: skip


def has_ink(font: ImageFont.FreeTypeFont, number: int) -> bool:
    """Whether a character is a letter or sign by itself that the font draws; a space is one that takes room."""
    if number >= N_CODEPOINTS - 1 or unicodedata.category(chr(number)) in {
        "Cc",
        "Cf",
        "Cs",
        "Co",
        "Cn",
        "Mn",
        "Me",
        "Zl",
        "Zp",
    }:
        return False
    try:
        left, top, right, bottom = font.getbbox(chr(number))
    except OSError:  # a glyph that FreeType finds damaged
        return False
    return right > left and bottom > top and not chr(number).isspace()


if __name__ == "__main__":
    main()
