"""A typed memo that was scanned and a notice that was photographed: pages without a text layer."""

# ruff: noqa: RUF001 - dashes belong on these pages

from __future__ import annotations

import numpy as np
import pymupdf
from PIL import Image, ImageDraw, ImageFont

from . import camera
from .drawing import A4, INK, Canvas, face, save

SCAN_DPI = 130
PITCH, LINE = 17, 35  # of the typewriter, in pixels

FIRST = """
             GULLHAVEN COLD STORES LTD.
             ==========================

                    MEMORANDUM


TO:       H. Pemberwick, Works Manager
FROM:     E. Lathom, Refrigeration
COPY:     Night Shift Foremen
DATE:     16 November 1987
SUBJECT:  Compressor No. 3, Store B


As agreed on Friday I am putting in writing what
happened in the night of 12 to 13 November.

At 01.40 hrs the high pressure cut-out on Compressor
No. 3 tripped.  The night man, Mr. Ogilby, reset it
twice, which he should not have done.  At 02.15 the
gland packing failed and about 40 lbs of ammonia
escaped into the plant room.  The extractor fan did
not start because its fuse had been taken out for the
painters on Tuesday and never put back.

Nobody was hurt.  Mr. Ogilby put on the mask, closed
the suction valve and rang me at home.  I arrived at
02.50.  We ran Store B on Compressor No. 1 alone until
the fitter came at 07.30.

The temperature in Store B rose from -22 to -14
degrees.  We lost 3 tons of herring and 11 cases of
raspberries, which I would put at 4,150 pounds.

                                  (continued)
"""
SECOND = """
- 2 -

READINGS IN STORE B, NIGHT OF 12 NOVEMBER

   Hour      No. 1      No. 3      Store
             p.s.i.     p.s.i.     deg. C
   -----------------------------------------
   00.00      168        171        -22
   01.00      169        188        -22
   02.00      170        214        -20
   03.00      196        off        -18
   05.00      201        off        -15
   07.00      203        off        -14
   09.00      171        175        -16


WHAT I PROPOSE

1. Nobody resets a cut-out more than once.  After that
   the machine stays off and I am called.

2. Fuses taken out for work are hung on the board in
   the foreman's office with name and date.

3. New gland packing for No. 3 from Thrale & Son, part
   no. TS 881, four sets at 62 pounds.

4. A second breathing mask for the plant room.  The one
   we have was made in 1969.

I should like to start with 2. at once, as it costs
nothing.



                     E. Lathom
"""


def _typed(text: str, *, seed: int) -> Image.Image:
    """A4 paper with text from a typewriter whose letters do not quite stand in line."""
    generator = np.random.default_rng(seed)
    size = (round(A4[0] / 72 * SCAN_DPI), round(A4[1] / 72 * SCAN_DPI))
    sheet = Image.new("L", size, 255)
    letters = ImageFont.truetype(str(face("typewriter-bold")), 27)
    habit = {chr(code): generator.normal(0, 0.8) for code in range(33, 127)}  # each type bar is bent its own way
    draw = ImageDraw.Draw(sheet)
    for row, line in enumerate(text.strip("\n").split("\n")):
        for column, letter in enumerate(line):
            if letter != " ":
                at = (
                    118 + column * PITCH + generator.normal(0, 0.5),
                    92 + row * LINE + habit[letter] + generator.normal(0, 0.5),
                )
                draw.text(at, letter, fill=int(generator.integers(20, 95)), font=letters)
    for y in (size[1] // 2 - 160, size[1] // 2 + 160):
        draw.ellipse((30, y - 15, 60, y + 15), fill=150)
    return sheet


def _stamp(sheet: Image.Image) -> None:
    stamp = Image.new("L", (330, 120), 0)
    draw = ImageDraw.Draw(stamp)
    draw.rounded_rectangle((3, 3, 326, 116), 12, outline=190, width=5)
    draw.text((165, 38), "RECEIVED", fill=200, font=ImageFont.truetype(str(face("sans-bold")), 40), anchor="mm")
    draw.text((165, 84), "17 NOV 1987", fill=200, font=ImageFont.truetype(str(face("sans-bold")), 30), anchor="mm")
    turned = stamp.rotate(9, Image.Resampling.BICUBIC, expand=True)
    sheet.paste(70, (690, 330), turned)


def memo() -> bytes:
    """Two scanned pages: pixels only."""
    first, second = _typed(FIRST, seed=3), _typed(SECOND, seed=4)
    _stamp(first)
    draw = ImageDraw.Draw(second)
    draw.text((470, 1196), "E. Lathom", fill=60, font=ImageFont.truetype(str(face("signature")), 84))
    draw.text((655, 1046), "agreed - H.P.", fill=90, font=ImageFont.truetype(str(face("signature")), 58))
    document = pymupdf.open()
    for sheet, seed, degrees in ((first, 11, 1.1), (second, 12, -0.7)):
        page = document.new_page(width=A4[0], height=A4[1])
        scan = camera.scanned(sheet, seed=seed, degrees=degrees)
        page.insert_image(page.rect, stream=camera.as_jpeg(scan, quality=48, dpi=SCAN_DPI))
    return save(document, title="Scan 0007", author="", date="20190307")


SAILINGS = [
    ["", "Mon–Thu", "Friday", "Saturday", "Sunday"],
    ["Skerrow, north pier", "06:50", "06:50", "08:15", "–"],
    ["Ardmoyle harbour", "07:35", "07:35", "09:00", "–"],
    ["Skerrow, north pier", "12:10", "12:10", "12:40", "11:20"],
    ["Ardmoyle harbour", "13:05", "13:05", "13:35", "12:15"],
    ["Skerrow, north pier", "16:30", "17:45", "16:30", "16:00"],
    ["Ardmoyle harbour", "17:25", "18:40", "17:25", "16:55"],
]


def _notice() -> bytes:
    document = pymupdf.open()
    canvas = Canvas(document, family="open")
    canvas.rect((0, 0, 595, 842), fill="#fdfcf8")
    canvas.rect((28, 28, 567, 150), fill="#12405c")
    canvas.text(297, 84, "SKERROW FERRY", size=44, face_name="open-bold", color="#ffffff", align="center")
    canvas.text(297, 126, "Winter timetable from 27 October", size=25, color="#ffffff", align="center")
    canvas.table(
        38, 172, [191, 84, 82, 88, 74], SAILINGS, size=16, row_height=43, head_fill="#c3452f", zebra="#e7eef2",
        faces=("open", "open-bold"),
    )  # fmt: skip
    canvas.text(
        38, 508, "No sailing on 25 and 26 December and 1 January.", size=19, face_name="open-bold", color="#c3452f"
    )
    canvas.flow(
        (38, 524, 557, 800),
        "<p>On Saturday the boat of 09:00 waits for the bus from Ardmoyle station until "
        "<b>09:20</b>.</p><p>Cars must be "
        "booked by 6 pm the day before: <b>01632 960 771</b>. Foot passengers need no booking. Dogs travel "
        "free, <b>bicycles £2</b>.</p>"
        "<p>In a south-easterly gale the ferry leaves from the <b>old slipway</b>. Look for the yellow flag on "
        "the pier.</p>",
        size=18,
        color=INK,
        lead=1.35,
    )
    canvas.line((38, 764), (557, 764), color="#12405c", width=2)
    canvas.text(38, 792, "Skerrow Island Boat Company", size=16, face_name="open-bold", color="#12405c")
    canvas.text(557, 792, "Adult £6.40   Child £3.20", size=16, face_name="open-bold", align="right")
    return document.tobytes()


def notice() -> bytes:
    """A JPEG of the timetable on the pier, taken in a hurry."""
    sheet = camera.rendered(_notice(), 0, dpi=170)
    corners = [(196.0, 128.0), (1060.0, 176.0), (1144.0, 1430.0), (92.0, 1364.0)]
    picture = camera.photographed(sheet, corners, (1200, 1560), seed=5, shadow=(-0.7, 0.34, 0.42))
    draw = ImageDraw.Draw(picture)
    for x, y in ((232, 160), (1024, 204), (1104, 1392), (136, 1330)):
        draw.ellipse((x - 13 + 5, y - 13 + 8, x + 13 + 5, y + 13 + 8), fill=(70, 60, 50))
        draw.ellipse((x - 13, y - 13, x + 13, y + 13), fill=(188, 48, 42))
        draw.ellipse((x - 7, y - 9, x - 1, y - 3), fill=(240, 170, 160))
    return camera.as_jpeg(picture, quality=78)
