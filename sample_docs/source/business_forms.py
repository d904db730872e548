"""An invoice and an insurance claim filled in by hand, between people and companies that do not exist."""

# ruff: noqa: RUF001 - dashes and the times sign belong on these pages

from __future__ import annotations

import pymupdf

from .drawing import GREY, HAIR, INK, Canvas, save

COPPER, NIGHT, SAND = "#b4632c", "#2b2f3a", "#f7f1ea"
ITEMS = [
    ("CB-2471-16", "Twin and earth cable 2.5 mm², grey, drum of 100 m", 6, 78.40),
    ("MCB-B32-6K", "Circuit breaker, single pole, type B, 32 A, 6 kA", 24, 4.85),
    ("RCD-63-30A", "Residual current device, 63 A, 30 mA, type A", 4, 31.20),
    ("CU-14W-MTL", "Consumer unit, metal, 14 ways, with 100 A main switch", 2, 64.90),
    ("LP-600-40K", "LED panel 600 × 600 mm, 40 W, 4000 K, with driver", 18, 22.75),
    ("EX-BH-IP66", "Bulkhead light, IP66, with three-hour emergency battery", 5, 47.60),
    ("GL-M20-BRS", "Brass cable gland M20, pack of 10", 3, 18.30),
    ("DEL-STD", "Delivery, one pallet, tail lift", 1, 38.00),
]


def invoice() -> bytes:
    """One page with part numbers, tax and payment terms."""
    document = pymupdf.open()
    canvas = Canvas(document)
    canvas.rect((0, 0, 595, 10), fill=COPPER)
    canvas.text(50, 66, "BRIGHTMOOR", size=25, face_name="lato-black", color=NIGHT)
    canvas.text(50, 84, "Electrical Wholesale Ltd", size=12, color=COPPER)
    sender = ["Unit 7, Lantern Way", "Carrowfield CX9 4QT", "Telephone 01632 960 184", "accounts@brightmoor.example"]
    for index, row in enumerate([*sender, "VAT number GB 000 4471 92"]):
        canvas.text(545, 52 + index * 13, row, size=9, color=GREY, align="right")
    canvas.text(50, 152, "Invoice", size=30, face_name="lato-light", color=NIGHT)
    for x, label, rows in (
        (50, "Bill to", ["Pellworth & Daughters", "Electrical Contractors", "3 Coopers Yard", "Stennick SX4 8LE"]),
        (
            205,
            "Deliver to",
            ["Aldermere Primary School", "Site office, north gate", "Quarry Lane", "Aldermere AM2 1BD"],
        ),
    ):
        canvas.text(x, 184, label, size=8.5, face_name="lato-bold", color=COPPER)
        for index, row in enumerate(rows):
            canvas.text(x, 200 + index * 14, row, size=10)
    facts = [
        ("Invoice number", "BW-2025-08817"),
        ("Invoice date", "9 September 2025"),
        ("Your order", "PD-1196 / R. Pellworth"),
    ]
    facts += [("Delivery note", "DN 55203, 8 September"), ("Due date", "9 October 2025")]
    canvas.rect((360, 170, 545, 264), fill=SAND, radius=4)
    for index, (name, value) in enumerate(facts):
        canvas.text(371, 188 + index * 17, name, size=8.5, color=GREY)
        canvas.text(535, 188 + index * 17, value, size=9, face_name="lato-bold", align="right")
    rows = [["Part number", "Description", "Quantity", "Unit price £", "Amount £"]]
    rows += [[part, name, str(count), f"{price:.2f}", f"{count * price:.2f}"] for part, name, count, price in ITEMS]
    bottom = canvas.table(
        50, 288, [82, 253, 48, 56, 56], rows, size=9, row_height=24, left=(0, 1), head_fill=NIGHT, zebra=SAND
    )
    net = sum(count * price for _, _, count, price in ITEMS)
    discount = round(net * 0.05, 2)
    tax = round((net - discount) * 0.20, 2)
    totals = [("Total of goods and delivery", net), ("Trade discount 5%", -discount), ("Net amount", net - discount)]
    totals += [("VAT 20%", tax)]
    for index, (name, value) in enumerate(totals):
        canvas.text(440, bottom + 26 + index * 18, name, size=9.5, color=GREY, align="right")
        canvas.text(541, bottom + 26 + index * 18, f"{value:,.2f}", size=9.5, align="right")
    canvas.rect((330, bottom + 90, 545, bottom + 118), fill=COPPER, radius=3)
    canvas.text(342, bottom + 109, "Amount due", size=12, face_name="lato-bold", color="#ffffff")
    due = f"£{net - discount + tax:,.2f}"
    canvas.text(537, bottom + 109, due, size=14, face_name="lato-bold", color="#ffffff", align="right")
    canvas.flow(
        (50, bottom + 20, 300, bottom + 150),
        "<p><b>Payment within 30 days</b> by bank transfer to Brightmoor Electrical Wholesale Ltd, Carrow & "
        "Fenland Bank, sort "
        "code 00-44-71, account 00818842. Please quote the invoice number.</p><p>After the due date we charge "
        "interest of 8 per "
        "cent above base rate.</p>",
        size=9.2,
    )
    canvas.line((50, 690), (545, 690))
    canvas.flow(
        (50, 698, 545, 790),
        "<p><b>Back-ordered:</b> 2 × SPD-T2-40 surge protector, expected on 22 September, will follow without "
        "a delivery charge.</p>"
        "<p><b>Returns</b> within 28 days, unopened and with the delivery note. Cut cable cannot be returned. "
        "Goods remain ours until "
        "they are paid for.</p>",
        size=9,
        color=GREY,
    )
    canvas.text(
        297.5,
        815,
        "Brightmoor Electrical Wholesale Ltd, Unit 7, Lantern Way, Carrowfield",
        size=8,
        color=GREY,
        align="center",
    )
    title = "Invoice BW-2025-08817"
    return save(document, title=title, author="Brightmoor Electrical Wholesale Ltd", date="20250909")


PEN = "#1c3f94"
VIOLET, LILAC = "#4b2e6b", "#f1edf6"


def _field(canvas: Canvas, x: float, y: float, width: float, label: str, value: str, *, size: float = 12) -> None:
    canvas.text(x + 4, y + 10, label, size=7, color=GREY, face_name="sans")
    canvas.rect((x, y, x + width, y + 32), stroke="#9a8fab", width=0.6)
    canvas.text(x + 8, y + 27, value, size=size, face_name="hand", color=PEN)


def _choice(canvas: Canvas, x: float, y: float, label: str, *, chosen: bool) -> float:
    canvas.rect((x, y, x + 10, y + 10), stroke="#5d5270", width=0.8)
    if chosen:
        canvas.path([(x + 1, y + 4), (x + 4.5, y + 9), (x + 12, y - 3)], color=PEN, width=1.6)
    return x + 16 + canvas.text(x + 15, y + 8.5, label, size=9, face_name="sans") + 16


def _section(canvas: Canvas, y: float, number: str, title: str) -> None:
    canvas.rect((45, y, 550, y + 18), fill=VIOLET)
    canvas.text(52, y + 13, f"{number}   {title}", size=10, face_name="sans-bold", color="#ffffff")


def _claim_page(document: pymupdf.Document, page: int) -> Canvas:
    canvas = Canvas(document, family="sans")
    canvas.text(45, 52, "Harbourlight Mutual", size=19, face_name="sans-bold", color=VIOLET)
    canvas.text(45, 68, "Household claim: water, fire, storm, theft", size=10.5)
    canvas.text(550, 46, "Form HC-14 (01/25)", size=8, color=GREY, align="right")
    canvas.text(550, 58, f"page {page} of 2", size=8, color=GREY, align="right")
    canvas.text(550, 70, "Please use block letters and a dark pen", size=8, color=GREY, align="right")
    return canvas


def _claim_first(document: pymupdf.Document) -> None:
    canvas = _claim_page(document, 1)
    _section(canvas, 84, "1", "About you")
    _field(canvas, 45, 108, 250, "Name of policyholder", "Nadia Fairweather-Kuhn")
    _field(canvas, 300, 108, 250, "Policy number", "HM-5520-31874-B")
    _field(canvas, 45, 144, 345, "Address", "Flat 3, 18 Pilot Street, Gullhaven GH1 6RA")
    _field(canvas, 395, 144, 155, "Telephone", "01632 960 527")
    _field(canvas, 45, 180, 250, "E-mail", "n.fairweather@post.example")
    _field(canvas, 300, 180, 250, "Best time to call", "weekdays after 5 pm")
    _section(canvas, 226, "2", "What happened")
    _field(canvas, 45, 250, 165, "Date of loss", "12 January 2025")
    _field(canvas, 215, 250, 165, "Time", "between 1 and 6 am")
    _field(canvas, 385, 250, 165, "Date you noticed it", "12 January 2025")
    canvas.text(49, 300, "Cause (tick all that apply)", size=7.5, color=GREY)
    x = 49.0
    causes = (
        ("burst pipe", True),
        ("leaking appliance", False),
        ("storm", False),
        ("fire", False),
        ("theft", False),
        ("frost", True),
    )
    for label, chosen in causes:
        x = _choice(canvas, x, 307, label, chosen=chosen)
    canvas.text(49, 338, "Tell us in your own words", size=7.5, color=GREY)
    canvas.rect((45, 328, 550, 500), stroke="#9a8fab")
    story = [
        "The pipe to the bathroom basin froze and split during the night.",
        "Water ran down the wall into the hall cupboard and through the floor",
        "to the flat below (Mr Oduya, no. 2), where it marked his ceiling.",
        "I turned off the stopcock at 6.10 and called the plumber at 6.30.",
        "He cut out 40 cm of pipe and put in plastic. The parquet in the hall",
        "has lifted and the cupboard doors no longer close.",
    ]
    for index, row in enumerate(story):
        y = 360 + index * 24
        canvas.line((53, y + 5), (542, y + 5), width=0.4)
        canvas.text(58, y, row, size=12.5, face_name="hand", color=PEN)
    canvas.text(49, 520, "Was the home lived in at the time?", size=9)
    _choice(canvas, _choice(canvas, 330, 512, "yes", chosen=True), 512, "no, empty since", chosen=False)
    canvas.text(49, 540, "Was the heating on?", size=9)
    _choice(canvas, _choice(canvas, 330, 532, "yes", chosen=False), 532, "no", chosen=True)
    canvas.text(49, 560, "Have you told the police?", size=9)
    _choice(canvas, _choice(canvas, 330, 552, "yes", chosen=False), 552, "no", chosen=True)
    _section(canvas, 582, "3", "Repairs so far")
    _field(canvas, 45, 606, 250, "Tradesperson", "Quickbrook Plumbing, J. Amadi")
    _field(canvas, 300, 606, 120, "Date", "12 Jan 2025")
    _field(canvas, 425, 606, 125, "Amount paid", "£186.00")
    _field(canvas, 45, 642, 505, "What was done", "pipe cut out and replaced, receipt 4093 enclosed")
    canvas.rect((45, 694, 550, 752), fill=LILAC)
    canvas.flow(
        (54, 702, 542, 768),
        "<b>Keep damaged things until we have seen them.</b> If you must throw something away, take "
        "photographs first. You need not "
        "wait for us to stop further damage: turn off the water, dry what you can, and keep the receipts. "
        "Claims line: "
        "01632 960 900, day and night.",
        size=9.5,
    )
    canvas.text(297.5, 812, "Harbourlight Mutual, 1 Breakwater Parade, Gullhaven", size=8, color=GREY, align="center")


LOSSES = [
    ["Oak parquet, hall, 6 m²", "2016", "840.00"],
    ["Cupboard, two doors", "2019", "415.00"],
    ["Wool coat and two jackets", "2022", "310.00"],
    ["Vacuum cleaner", "2021", "129.00"],
    ["Painting the wall and ceiling", "–", "260.00"],
    ["Plumber, receipt 4093", "2025", "186.00"],
]


def _claim_second(document: pymupdf.Document) -> None:
    canvas = _claim_page(document, 2)
    _section(canvas, 84, "4", "What was damaged or lost")
    widths = (285, 90, 130)
    for row in range(9):
        x, top = 45.0, 108 + row * 26
        cells = LOSSES[row - 1] if 1 <= row <= len(LOSSES) else ["", "", ""]
        if row == 0:
            cells = ["Item", "Bought in", "Cost to replace (£)"]
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            canvas.rect((x, top, x + width, top + 26), stroke="#9a8fab", fill=LILAC if row == 0 else None)
            at, align = (x + width - 8, "right") if column == 2 and row else (x + 8, "left")
            style = ("sans-bold", 8.5, INK) if row == 0 else ("hand", 12, PEN)
            canvas.text(at, top + 18, cell, face_name=style[0], size=style[1], color=style[2], align=align)
            x += width
    total = sum(float(row[2]) for row in LOSSES)
    canvas.rect((420, 342, 550, 372), stroke=VIOLET, width=1.4)
    canvas.text(412, 361, "Total claimed (£)", size=9.5, face_name="sans-bold", align="right")
    canvas.text(542, 363, f"{total:,.2f}", size=14, face_name="hand", color=PEN, align="right")
    _section(canvas, 392, "5", "Other insurance and other people")
    _field(canvas, 45, 416, 250, "Is anything insured elsewhere?", "no")
    _field(canvas, 300, 416, 250, "Whose property was also damaged?", "T. Oduya, Flat 2 (ceiling)")
    _field(
        canvas, 45, 452, 505, "Earlier claims in the last five years", "2022: stolen bicycle, claim 77-20416, £390 paid"
    )
    _section(canvas, 500, "6", "How shall we pay you?")
    _field(canvas, 45, 524, 250, "Account holder", "N. Fairweather-Kuhn")
    _field(canvas, 300, 524, 120, "Sort code", "00-17-29")
    _field(canvas, 425, 524, 125, "Account", "00562210")
    _section(canvas, 574, "7", "Declaration")
    canvas.flow(
        (49, 598, 546, 650),
        "What I have written is true to the best of my knowledge. I know that a false statement can cost me "
        "the whole claim. I agree "
        "that Harbourlight Mutual may ask the tradespeople named here about their work.",
        size=9.5,
    )
    canvas.text(62, 676, "Nadia Fairweather", size=30, face_name="signature", color=PEN)
    canvas.line((49, 684), (320, 684), color=INK)
    canvas.text(49, 695, "Signature", size=7.5, color=GREY)
    canvas.text(366, 676, "20 January 2025", size=13, face_name="hand", color=PEN)
    canvas.line((350, 684), (546, 684), color=INK)
    canvas.text(350, 695, "Date", size=7.5, color=GREY)
    canvas.rect((45, 716, 550, 784), stroke=VIOLET, width=1)
    canvas.text(54, 732, "For our use", size=8.5, face_name="sans-bold", color=VIOLET)
    for x, label, value in (
        (54, "Claim number", "HC-25-00391"),
        (190, "Received", "23 JAN 2025"),
        (310, "Excess", "£150"),
        (400, "Handler", "B. Stroud"),
    ):
        canvas.text(x, 750, label, size=7.5, color=GREY)
        canvas.text(x, 770, value, size=12, face_name="typewriter", color="#9b1c1c" if x == 190 else INK)
    canvas.line((45, 795), (550, 795), color=HAIR)
    canvas.text(297.5, 812, "Harbourlight Mutual, 1 Breakwater Parade, Gullhaven", size=8, color=GREY, align="center")


def claim() -> bytes:
    """Two pages: printed labels, handwritten answers."""
    document = pymupdf.open()
    _claim_first(document)
    _claim_second(document)
    title = "Household claim HC-25-00391, N. Fairweather-Kuhn"
    return save(
        document,
        title=title,
        author="Harbourlight Mutual",
        date="20250123",
        outline=[(1, "Claim", 1), (1, "Losses", 2)],
    )
