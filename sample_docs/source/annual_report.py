"""The annual report of Tarnwell Water Systems plc, a maker of pumps that does not exist."""

# ruff: noqa: RUF001 - dashes belong on these pages

from __future__ import annotations

import math

import pymupdf

from . import charts
from .drawing import GREY, INK, Canvas, mix, save

TEAL, DEEP, AMBER, MIST, SKY = "#0f6674", "#0a3d4a", "#e59a2f", "#e9f2f3", "#7fb7be"
SEGMENT_COLORS = [DEEP, TEAL, SKY, AMBER]
LEFT, RIGHT = 50.0, 545.0
YEARS = ["FY21", "FY22", "FY23", "FY24", "FY25"]


def _cover(canvas: Canvas) -> None:
    canvas.rect((0, 0, 595, 842), fill=DEEP)
    for band in range(14):
        share = band / 13
        base, swing = 430 + band * 30, 34 - band * 1.6
        wave = [(x, base + swing * math.sin(x / 95 + band * 0.7) + 0.08 * x) for x in range(0, 601, 5)]
        canvas.path([*wave, (600, 842), (0, 842)], color=None, fill=mix(TEAL, "#bfe3e2", share), opacity=0.32)
    canvas.circle((455, 300), 62, fill=AMBER)
    canvas.text(LEFT, 92, "Tarnwell", face_name="lato-black", size=30, color="#ffffff")
    canvas.text(LEFT, 112, "Water Systems plc", face_name="lato-light", size=15, color="#ffffff")
    canvas.line((LEFT, 196), (LEFT + 54, 196), color=AMBER, width=3)
    canvas.text(LEFT, 248, "Every drop", face_name="lato-light", size=46, color="#ffffff")
    canvas.text(LEFT, 300, "accounted for", face_name="lato-light", size=46, color="#ffffff")
    canvas.text(LEFT, 338, "Annual Report and Accounts 2024/25", size=15, color="#ffffff")
    canvas.text(LEFT, 358, "Year ended 31 March 2025", face_name="lato-light", size=12, color="#ffffff")


def _page(document: pymupdf.Document, label: str, section: str, title: str) -> Canvas:
    canvas = Canvas(document)
    canvas.rect((0, 0, 12, 842), fill=TEAL)
    canvas.text(LEFT, 42, section, size=8, color=TEAL, face_name="lato-bold")
    if title:
        canvas.text(LEFT, 82, title, size=25, face_name="lato-light", color=DEEP)
    canvas.line((LEFT, 806), (RIGHT, 806))
    canvas.text(LEFT, 820, "Tarnwell Water Systems plc  |  Annual Report and Accounts 2024/25", size=7.5, color=GREY)
    canvas.text(RIGHT, 820, label, size=8.5, face_name="lato-bold", color=TEAL, align="right")
    return canvas


def _contents(document: pymupdf.Document) -> None:
    canvas = _page(document, "ii", "Contents", "What is in this report")
    entries = [
        ("Letter to shareholders", "iii"),
        ("Key figures: five years at a glance", "1"),
        ("Segment results", "2"),
        ("Metering, and where our revenue comes from", "3"),
        ("Principal risks and uncertainties", "4"),
        ("Consolidated income statement and cash flow", "5"),
        ("Consolidated balance sheet", "6"),
        ("Notes to the accounts", "7"),
        ("Sustainability, outlook and shareholder information", "8"),
    ]
    for index, (name, page) in enumerate(entries):
        y = 122 + index * 23
        canvas.text(LEFT, y, name, size=11)
        canvas.text(RIGHT, y, page, size=11, face_name="lato-bold", color=TEAL, align="right")
        canvas.line((LEFT, y + 7), (RIGHT, y + 7), width=0.4)
    canvas.text(LEFT, 372, "At a glance", size=16, face_name="lato-light", color=DEEP)
    tiles = [
        ("£512.4m", "Revenue", "up 8.9% on last year"),
        ("£63.2m", "Adjusted operating profit", "12.3% of revenue"),
        ("27.9p", "Basic earnings per share", "25.5p last year"),
        ("11.2p", "Dividend for the year", "up 7.7%"),
        ("£53.8m", "Net debt, before leases", "£86.7m last year"),
        ("2,811", "People", "in eleven countries"),
    ]
    for index, (figure, name, note) in enumerate(tiles):
        x, y = LEFT + (index % 3) * 168, 392 + (index // 3) * 104
        canvas.rect((x, y, x + 158, y + 92), fill=MIST, radius=4)
        canvas.text(x + 14, y + 42, figure, size=26, face_name="lato-bold", color=TEAL)
        canvas.text(x + 14, y + 61, name, size=9.5, face_name="lato-bold")
        canvas.text(x + 14, y + 75, note, size=8.5, color=GREY)
    canvas.flow(
        (LEFT, 620, RIGHT, 790),
        "<p><b>Who we are.</b> Tarnwell designs, builds and looks after the equipment that moves, cleans and "
        "counts water "
        "for towns, farms and factories. We began in 1921 as a repair shop for mill pumps in Harrowmouth. Today we "
        "have four businesses: Pumping, Filtration, Metering and Service. About two thirds of our revenue comes from "
        "Europe including the United Kingdom.</p><p><b>How to read this report.</b> Figures are in millions of "
        "pounds sterling unless "
        "we say otherwise. <i>Adjusted</i> operating profit leaves out restructuring costs; note 2 on page 7 "
        "shows what was "
        "left out. The accounts were audited by Calloway Pell LLP.</p>",
        size=9.8,
    )


LETTER = """
<p><b>Dear shareholder,</b></p>
<p>A year ago I wrote that Tarnwell had become good at winning work and now had to become good at keeping promises.
This report is the answer. Revenue rose by 8.9 per cent to £512.4 million, adjusted operating profit by 15 per cent to
£63.2 million, and the share of orders we delivered on the day we had agreed went from 81 to 93 per cent. Customers
notice the last figure more than the first two.</p>
<p>Three decisions shaped the year. The first was to <b>close the foundry at Dunmere</b> and bring casting together at
Olsberry. It was the right decision and a hard one: 64 colleagues left us, most of them after more than ten years. We
paid for retraining as well as redundancy, and 51 of them had found other work by the end of March. The closure cost
£4.8 million and will save about £3.1 million a year.</p>
<p>The second was to back <b>Metering</b>. In June 2024 Vale of Ashby Water chose us to replace 410,000 household
meters over five years, the largest contract in our history. The first 58,000 are in the ground, and they report leaks
within a day rather than at the next quarterly reading.</p>
<p>The third was to sell less of something. We stopped quoting for desalination pre-treatment, where we had lost money
in four years out of five, and moved those engineers to removing PFAS, the so-called forever chemicals, from drinking
water. Our ClearColumn 400 was approved for public supply in November.</p>
<p>Not everything went well. On 14 October 2024 intruders got into our order portal through a supplier's account, and
we took it offline for six days. No customer data was lost, but orders were taken by telephone and the episode cost us
£1.9 million. Page 4 sets out what we have changed since.</p>
<p>The board proposes a final dividend of 7.4 pence, which with the interim dividend of 3.8 pence makes 11.2 pence for
the year. If you approve it at the annual general meeting on 17 July 2025, it will be paid on 8 August.</p>
<p>Desmond Achterberg will step down as chair at that meeting after nine years. He leaves a company with half the debt
he found and twice the order book. The board has chosen Marguerite Osei-Lindqvist, who joined us in 2021, to follow
him.</p>
<p>Thank you for your trust.</p>
"""


def _letter(document: pymupdf.Document) -> None:
    canvas = _page(document, "iii", "Letter to shareholders", "Keeping promises")
    boxes = [(LEFT, 110, 286, 690), (309, 110, RIGHT, 690)]
    canvas.columns(boxes, LETTER, size=12, css="p {margin:0 0 9pt 0}", lead=1.5)
    canvas.rect((LEFT, 706, RIGHT, 792), fill=MIST, radius=4)
    canvas.text(66, 752, "Ingrid Solvang-Pryce", face_name="signature", size=30, color=DEEP)
    canvas.text(66, 776, "Ingrid Solvang-Pryce, Chief Executive  |  Harrowmouth, 22 May 2025", size=9, color=INK)
    canvas.text(528, 744, "93%", size=27, face_name="lato-bold", color=TEAL, align="right")
    canvas.text(528, 762, "of orders delivered on the agreed day", size=8.5, color=GREY, align="right")
    canvas.text(528, 774, "(last year: 81%)", size=8.5, color=GREY, align="right")


FIVE_YEARS = [
    ["£ million unless stated", *YEARS],
    ["Revenue", "398.7", "421.5", "446.0", "470.4", "512.4"],
    ["Adjusted operating profit", "41.1", "45.9", "50.2", "54.9", "63.2"],
    ["Adjusted operating margin", "10.3%", "10.9%", "11.3%", "11.7%", "12.3%"],
    ["Basic earnings per share (pence)", "18.6", "20.9", "23.4", "25.5", "27.9"],
    ["Dividend per share (pence)", "8.4", "9.0", "9.7", "10.4", "11.2"],
    ["Net debt before leases", "131.2", "118.4", "103.9", "86.7", "53.8"],
    ["Order book at year end", "188.0", "201.0", "224.0", "239.0", "286.0"],
    ["Employees (average)", "2,610", "2,655", "2,702", "2,748", "2,811"],
]


def _key_figures(document: pymupdf.Document) -> None:
    canvas = _page(document, "1", "Key figures", "Five years at a glance")
    bottom = canvas.table(
        LEFT, 104, [195, 60, 60, 60, 60, 60], FIVE_YEARS, size=9.2, row_height=21, accent=TEAL, zebra=MIST
    )
    canvas.text(LEFT, bottom + 14, "FY25 is the year from 1 April 2024 to 31 March 2025.", size=8, color=GREY)
    canvas.text(LEFT, 350, "Revenue (£ million)", size=11, face_name="lato-bold", color=DEEP)
    revenue = {"Revenue": [398.7, 421.5, 446.0, 470.4, 512.4]}
    charts.bars(canvas, (80, 372, 286, 520), YEARS, revenue, [TEAL], top=600, ticks=[0, 200, 400, 600])
    canvas.text(320, 350, "Net debt before leases (£ million)", size=11, face_name="lato-bold", color=DEEP)
    debt = {"Net debt": [131.2, 118.4, 103.9, 86.7, 53.8]}
    charts.lines(canvas, (346, 372, 515, 520), YEARS, debt, [AMBER], top=150, ticks=[0, 50, 100, 150])
    canvas.text(LEFT, 570, "Order intake by quarter (£ million)", size=11, face_name="lato-bold", color=DEEP)
    orders = {"FY24": [116.0, 119.0, 123.0, 127.4], "FY25": [129.0, 138.0, 142.0, 150.4]}
    quarters = ["Q1 (Apr-Jun)", "Q2 (Jul-Sep)", "Q3 (Oct-Dec)", "Q4 (Jan-Mar)"]
    charts.bars(canvas, (80, 596, 350, 740), quarters, orders, [SKY, DEEP], top=160, ticks=[0, 40, 80, 120, 160])
    charts.legend(canvas, 250, 571, {"FY24": SKY, "FY25": DEEP})
    canvas.flow(
        (375, 588, RIGHT, 790),
        "<p><b>Orders outran sales.</b> We took orders worth £559.4 million, £47.0 million more than we "
        "delivered. The order book "
        "grew by the same amount, to £286.0 million: more than half a year's revenue, and the highest we have "
        "recorded.</p>"
        "<p>The third quarter held up in spite of the six days in October when the order portal was offline.</p>",
    )


SEGMENTS = [
    ["£ million", "Revenue FY25", "Revenue FY24", "Growth", "Profit FY25", "Profit FY24", "Margin FY25"],
    ["Pumping", "214.6", "201.3", "6.6%", "25.8", "24.6", "12.0%"],
    ["Filtration", "131.2", "118.9", "10.3%", "19.9", "16.3", "15.2%"],
    ["Metering", "74.5", "61.8", "20.6%", "6.1", "2.9", "8.2%"],
    ["Service", "92.1", "88.4", "4.2%", "20.5", "19.8", "22.3%"],
    ["Central costs", "–", "–", "", "(9.1)", "(8.7)", ""],
    ["Group", "512.4", "470.4", "8.9%", "63.2", "54.9", "12.3%"],
]


def _segments(document: pymupdf.Document) -> None:
    canvas = _page(document, "2", "Segment results", "Four businesses, all growing")
    canvas.table(
        LEFT, 104, [93, 70, 70, 58, 66, 66, 72], SEGMENTS, size=8.8, row_height=20, accent=TEAL, bold=[6], zebra=MIST
    )
    canvas.text(LEFT, 258, "Profit is adjusted operating profit, before restructuring costs.", size=8, color=GREY)
    canvas.text(LEFT, 292, "Revenue by segment (£ million)", size=11, face_name="lato-bold", color=DEEP)
    names = ["Pumping", "Filtration", "Metering", "Service"]
    revenue = {"FY24": [201.3, 118.9, 61.8, 88.4], "FY25": [214.6, 131.2, 74.5, 92.1]}
    charts.bars(canvas, (80, 314, 330, 480), names, revenue, [SKY, DEEP], top=250, ticks=[0, 50, 100, 150, 200, 250])
    charts.legend(canvas, 240, 293, {"FY24": SKY, "FY25": DEEP})
    canvas.text(362, 292, "Margin by segment, FY25", size=11, face_name="lato-bold", color=DEEP)
    margins = {"Pumping": 12.0, "Filtration": 15.2, "Metering": 8.2, "Service": 22.3}
    charts.across(canvas, (362, 312, RIGHT, 480), margins, TEAL, top=25, unit="%", label_width=52)
    text = """
    <p><b>Pumping.</b> Municipal demand was steady and irrigation recovered after two dry winters in southern Europe.
    The new LW-90 low-head pump sold 1,140 units in its first full year. Casting moved from Dunmere to Olsberry
    between September and January; for six weeks we paid overtime and air freight, which held the margin at 12.0 per
    cent.</p>
    <p><b>Filtration.</b> Growth came from drinking water. ClearColumn 400, our filter against PFAS, was approved for
    public supply in November 2024 and brought in £9.3 million. We left desalination pre-treatment, which had sales of
    £4.4 million in the year before.</p>
    <p><b>Metering.</b> The contract with Vale of Ashby Water made this our fastest growing business. Page 3 says
    more.</p>
    <p><b>Service.</b> Long-term agreements are now 61 per cent of service revenue, after 55 per cent. A call-out is
    answered in 3.2 hours on average; five years ago it took 7.5 hours. We trained 37 apprentices, more than ever
    before, and opened a repair workshop in Valdoreja that serves the Iberian peninsula.</p>
    """
    canvas.columns(
        [(LEFT, 522, 286, 795), (309, 522, RIGHT, 795)], text, size=10.4, css="p {margin:0 0 6pt 0}", lead=1.42
    )


REGIONS = {
    "UK and Ireland": 176.8,
    "Continental Europe": 158.4,
    "North America": 89.7,
    "Middle East and Africa": 51.3,
    "Asia Pacific": 36.2,
}


def _metering(document: pymupdf.Document) -> None:
    canvas = _page(document, "3", "Metering and regions", "The meter that calls home")
    canvas.flow(
        (LEFT, 104, 300, 380),
        "<p>Until last year most of our meters were read by a person with a torch. The Vale of Ashby contract "
        "changed the mix: "
        "in March, four meters out of five left the factory with a radio.</p>"
        "<p>A radio meter sends its reading every six hours. When water flows all night, the utility sees it "
        "the next morning. In "
        "the first 58,000 homes this found 1,930 leaks on customers' own pipes, which together lost as much "
        "water as 4,200 "
        "households use.</p>"
        "<p>Metering earned £6.1 million after £2.9 million. Its margin of 8.2 per cent is still our lowest, "
        "because the contract "
        "pays more in its later years, when the meters are in and the readings begin to be charged for.</p>",
        size=11,
    )
    canvas.text(
        322, 112, "Radio meters installed, Vale of Ashby (thousand)", size=9.5, face_name="lato-bold", color=DEEP
    )
    months = ["Sep", "Oct", "Nov", "Dec", "Jan", "Feb", "Mar"]
    installed = {"Installed": [3, 9, 18, 26, 35, 46, 58], "Plan": [4, 12, 20, 28, 36, 44, 52]}
    charts.lines(canvas, (346, 134, 520, 290), months, installed, [DEEP, AMBER], top=60, ticks=[0, 20, 40, 60])
    charts.legend(canvas, 346, 324, {"installed": DEEP, "plan": AMBER})
    canvas.text(LEFT, 420, "Revenue by region, FY25", size=16, face_name="lato-light", color=DEEP)
    shades = [DEEP, TEAL, SKY, AMBER, "#b9c6cc"]
    charts.ring(canvas, (150, 540), 88, REGIONS, shades)
    canvas.text(150, 538, "£512.4m", size=17, face_name="lato-bold", color=DEEP, align="center")
    canvas.text(150, 552, "revenue", size=9, color=GREY, align="center")
    rows = [["£ million", "FY25", "Share"]]
    rows += [[name, f"{value:.1f}", f"{100 * value / 512.4:.1f}%"] for name, value in REGIONS.items()]
    rows += [["Total", "512.4", "100.0%"]]
    canvas.table(290, 448, [145, 55, 55], rows, size=9.2, row_height=24, accent=TEAL, bold=[6])
    for index, shade in enumerate(shades):
        canvas.rect((280, 472 + index * 24 + 8, 287, 472 + index * 24 + 15), fill=shade)
    canvas.flow(
        (LEFT, 656, RIGHT, 790),
        "<p><b>North America</b> grew fastest, by 17 per cent, as utilities there began to replace filters "
        "ahead of new limits on "
        "PFAS. <b>Asia Pacific</b> was flat: we closed the sales office in one country and now work through a "
        "partner. No "
        "customer accounts for more than 7 per cent of revenue. The largest is Vale of Ashby Water.</p>",
        size=9.8,
    )


RISKS = [
    (
        "Cyber attack",
        "High",
        "rising",
        (
            "Two-step sign-in for every supplier account since December; the order portal now runs apart from our "
            "factory network; a full restore from backup is rehearsed each quarter and took 9 hours in February."
        ),
    ),
    (
        "Price of bronze and steel",
        "High",
        "steady",
        (
            "Metal is 31 per cent of cost of sales. We fix the price of about half of what we need for the next "
            "twelve months; contracts longer than a year carry a price clause."
        ),
    ),
    (
        "One foundry instead of two",
        "Medium",
        "new",
        (
            "After Dunmere closed, a fire or flood at Olsberry would stop casting. We hold ten weeks of critical "
            "castings and have an agreement with an outside foundry, Brandt & Ekelöf."
        ),
    ),
    (
        "Fixed-price contracts",
        "Medium",
        "steady",
        (
            "The Vale of Ashby contract fixes the price of installation for three years. Each month we compare "
            "cost per meter with the bid; in March it was £2.10 below it."
        ),
    ),
    (
        "Regulation of PFAS",
        "Medium",
        "falling",
        (
            "Limits may come later than we plan for. ClearColumn 400 also removes pesticides, for which limits "
            "exist already."
        ),
    ),
    (
        "Too few engineers",
        "Medium",
        "rising",
        ("37 apprentices began this year. We pay a premium of £4,000 to engineers who move to Olsberry."),
    ),
    (
        "Pension scheme",
        "Low",
        "falling",
        (
            "The scheme is closed to new members. The deficit fell from £20.4 million to £18.2 million; the next "
            "valuation is due in 2026."
        ),
    ),
]


def _risks(document: pymupdf.Document) -> None:
    canvas = _page(document, "4", "Principal risks and uncertainties", "What could go wrong")
    canvas.flow(
        (LEFT, 100, RIGHT, 150),
        "<p>The board reviews these risks twice a year. The level is what remains after the measures we "
        "describe; the trend "
        "compares it with last year.</p>",
        size=10,
    )
    y = 146.0
    colors = {"High": "#b8432f", "Medium": AMBER, "Low": "#4b8b5c"}
    for name, level, trend, text in RISKS:
        canvas.line((LEFT, y), (RIGHT, y), color=TEAL, width=0.7)
        canvas.text(LEFT, y + 22, name, size=11, face_name="lato-bold", color=DEEP)
        canvas.rect((LEFT, y + 32, LEFT + 58, y + 47), fill=colors[level], radius=7)
        canvas.text(LEFT + 29, y + 42.5, level, size=8.5, face_name="lato-bold", color="#ffffff", align="center")
        canvas.text(LEFT + 66, y + 42.5, trend, size=8.5, color=GREY)
        canvas.flow((225, y + 10, RIGHT, y + 88), text, size=9.8)
        y += 86
    canvas.line((LEFT, y), (RIGHT, y), color=TEAL, width=0.7)
    canvas.flow(
        (LEFT, y + 6, RIGHT, 800),
        "<i>Going concern.</i> With £58.7 million of cash and an undrawn credit line of £60.0 million that "
        "runs until 2028, "
        "the directors expect the group to meet what it owes for at least the next twelve months.",
        size=9.2,
    )


INCOME = [
    ["£ million", "Note", "FY25", "FY24"],
    ["Revenue", "1", "512.4", "470.4"],
    ["Cost of sales", "", "(321.7)", "(299.1)"],
    ["Gross profit", "", "190.7", "171.3"],
    ["Distribution costs", "", "(41.9)", "(39.2)"],
    ["Administrative expenses", "", "(73.4)", "(67.5)"],
    ["Research and development", "", "(12.2)", "(9.7)"],
    ["Adjusted operating profit", "", "63.2", "54.9"],
    ["Restructuring costs", "2", "(4.8)", "–"],
    ["Operating profit", "", "58.4", "54.9"],
    ["Net finance costs", "", "(6.3)", "(7.1)"],
    ["Profit before tax", "", "52.1", "47.8"],
    ["Tax", "", "(12.4)", "(11.5)"],
    ["Profit for the year", "", "39.7", "36.3"],
]
CASH = [
    ["£ million", "FY25"],
    ["Operating profit", "58.4"],
    ["Depreciation and amortisation", "28.3"],
    ["Decrease in inventories", "6.6"],
    ["Increase in receivables", "(6.1)"],
    ["Increase in payables and provisions", "6.3"],
    ["Pension contributions and other items", "(1.4)"],
    ["Tax paid", "(12.0)"],
    ["Interest paid", "(6.3)"],
    ["Net cash from operating activities", "73.8"],
    ["Purchase of plant, equipment and software", "(21.7)"],
    ["Proceeds from disposals", "2.1"],
    ["Net cash used in investing activities", "(19.6)"],
    ["Repayment of borrowings", "(15.5)"],
    ["Lease payments", "(6.2)"],
    ["Dividends paid", "(15.1)"],
    ["Net cash used in financing activities", "(36.8)"],
    ["Net increase in cash", "17.4"],
]


def _statements(document: pymupdf.Document) -> None:
    canvas = _page(document, "5", "Financial statements", "Income statement and cash flow")
    canvas.text(LEFT, 110, "Consolidated income statement", size=12, face_name="lato-bold", color=DEEP)
    widths = [275, 60, 80, 80]
    bottom = canvas.table(LEFT, 120, widths, INCOME, size=9.2, row_height=18.5, accent=TEAL, bold=[3, 7, 9, 11, 13])
    share = "Basic earnings per share: 27.9 pence (FY24: 25.5 pence), on 142.3 million shares in issue in both years."
    canvas.text(LEFT, bottom + 15, share, size=8.6, color=GREY)
    canvas.text(
        LEFT, 436, "Consolidated cash flow, year ended 31 March 2025", size=12, face_name="lato-bold", color=DEEP
    )
    bottom = canvas.table(LEFT, 446, [415, 80], CASH, size=8.8, row_height=17, accent=TEAL, bold=[9, 12, 16, 17])
    note = "Cash rose from £41.3 million to £58.7 million. Free cash flow, after lease payments, was £48.0 million."
    canvas.text(LEFT, bottom + 15, note, size=8.6, color=GREY)


BALANCE = [
    ["£ million, at 31 March", "2025", "2024"],
    ["Goodwill and other intangible assets", "148.3", "151.0"],
    ["Property, plant and equipment", "176.9", "169.4"],
    ["Right-of-use assets", "31.5", "33.8"],
    ["Deferred tax assets", "6.2", "5.9"],
    ["Total non-current assets", "362.9", "360.1"],
    ["Inventories", "97.6", "104.2"],
    ["Trade and other receivables", "112.8", "106.7"],
    ["Cash and cash equivalents", "58.7", "41.3"],
    ["Total current assets", "269.1", "252.2"],
    ["Total assets", "632.0", "612.3"],
    ["Trade and other payables", "101.4", "98.8"],
    ["Borrowings", "112.5", "128.0"],
    ["Lease liabilities", "33.0", "35.1"],
    ["Provisions", "11.6", "7.9"],
    ["Retirement benefit obligations", "18.2", "20.4"],
    ["Total liabilities", "276.7", "290.2"],
    ["Net assets", "355.3", "322.1"],
    ["Share capital", "14.2", "14.2"],
    ["Share premium", "62.5", "62.5"],
    ["Retained earnings", "278.6", "245.4"],
    ["Total equity", "355.3", "322.1"],
]


def _balance(document: pymupdf.Document) -> None:
    canvas = _page(document, "6", "Financial statements", "Consolidated balance sheet")
    bottom = canvas.table(
        LEFT, 104, [335, 80, 80], BALANCE, size=9.6, row_height=22, accent=TEAL, bold=[5, 9, 10, 16, 17, 21]
    )
    canvas.flow(
        (LEFT, bottom + 18, RIGHT, 720),
        "<p>Equity grew by £33.2 million: profit for the year of £39.7 million, less dividends of £15.1 "
        "million, plus £8.6 million "
        "of currency gains and other comprehensive income.</p><p>The accounts were approved by the board on 22 "
        "May 2025 and "
        "signed on its behalf by:</p>",
    )
    for x, name, role in (
        (LEFT, "Ingrid Solvang-Pryce", "Chief Executive"),
        (310, "Priyanka Thole", "Chief Financial Officer"),
    ):
        canvas.text(x, 744, name, face_name="signature", size=26, color=DEEP)
        canvas.line((x, 752), (x + 200, 752), color=GREY)
        canvas.text(x, 766, f"{name}, {role}", size=9)
    canvas.text(LEFT, 790, "Registered office: Weir House, 4 Sluice Lane, Harrowmouth", size=8, color=GREY)


PLANT = [
    ["£ million", "Land and buildings", "Plant and machinery", "Total"],
    ["At 1 April 2024", "71.8", "97.6", "169.4"],
    ["Additions", "3.4", "16.3", "19.7"],
    ["Depreciation", "(3.1)", "(11.8)", "(14.9)"],
    ["Disposals", "(1.5)", "(0.4)", "(1.9)"],
    ["Currency", "1.9", "2.7", "4.6"],
    ["At 31 March 2025", "72.5", "104.4", "176.9"],
]
RESTRUCTURING = [
    ["£ million", "FY25"],
    ["Redundancy pay", "2.6"],
    ["Retraining and placement", "0.5"],
    ["Moving patterns and machines", "1.2"],
    ["Clearing the site", "0.5"],
    ["Total", "4.8"],
]


def _notes(document: pymupdf.Document) -> None:
    canvas = _page(document, "7", "Notes to the accounts", "Notes")
    text = """
    <h3>1  Revenue</h3><p>Equipment is recognised as revenue when the customer takes control of it, which is on
    delivery or, where we install it, on acceptance. Service agreements are recognised evenly over their term. Of the
    year's revenue £420.3 million came from equipment and £92.1 million from service.</p>
    <h3>2  Restructuring costs</h3><p>The foundry at Dunmere closed on 31 January 2025. Its costs, set out below, are
    shown apart from adjusted operating profit because nothing like them is expected again. £1.7 million had not yet
    been paid at year end and is held as a provision.</p>
    """
    y = canvas.flow((LEFT, 100, 286, 420), text, size=10, css="h3 {font-size:11pt}")
    canvas.table(LEFT, y + 8, [166, 70], RESTRUCTURING, size=8.8, row_height=17, accent=TEAL, bold=[5])
    text = """
    <h3>3  Borrowings</h3><p>The group owes £112.5 million: £80.0 million of loan notes that fall due in September
    2029 and pay 4.35 per cent, and £32.5 million drawn on a bank facility at a margin of 1.6 per cent over the base
    rate. The banks require net debt below 2.5 times EBITDA; it was 0.6 times.</p>
    <h3>4  Provisions</h3><p>Warranties £7.4 million, restructuring £1.7 million, cleaning up former sites £2.5
    million: together £11.6 million. A warranty usually runs for 24 months.</p>
    <h3>5  Directors' pay</h3><p>The chief executive received £742,000 (FY24: £689,000), of which £238,000 was a
    bonus. That is 19 times the pay of the median employee.</p>
    <h3>6  Contingent liability</h3><p>A former customer in Port Ravel claims £3.2 million for a pumping station that
    was flooded in 2022. The directors believe the claim will fail and have provided nothing for it.</p>
    <h3>7  After the year end</h3><p>On 28 April 2025 the group bought the 40 per cent of Skaldvik Metering A/S that it
    did not own, for £6.9 million in cash.</p>
    """
    canvas.flow((309, 100, RIGHT, 570), text, size=10, css="h3 {font-size:11pt}")
    canvas.text(LEFT, 562, "8  Property, plant and equipment", size=11, face_name="lato-bold")
    canvas.table(LEFT, 572, [195, 100, 100, 100], PLANT, size=9, row_height=19, accent=TEAL, bold=[6], zebra=MIST)
    note = "At year end plant worth £8.8 million was on order but not yet delivered, most of it for Olsberry."
    canvas.text(LEFT, 722, note, size=8.8, color=GREY)


def _outlook(document: pymupdf.Document) -> None:
    canvas = _page(document, "8", "Sustainability and outlook", "The year ahead")
    canvas.flow(
        (LEFT, 104, 290, 400),
        "<p>We enter the new year with a full order book and less debt than at any time since 2009. For the "
        "year to 31 March 2026 "
        "we expect</p><ul><li>revenue to grow by <b>6 to 8 per cent</b>,</li><li>an adjusted operating margin "
        "between <b>12.5 and "
        "13.0 per cent</b>,</li><li>capital expenditure of <b>£28 to 30 million</b>, of which £11 million is a "
        "second moulding line "
        "at Olsberry,</li><li>and net debt below <b>£45 million</b>.</li></ul><p>We assume that metal prices "
        "stay near their level of "
        "April 2025 and that a pound buys 1.17 euros.</p>",
        size=11,
    )
    canvas.text(
        322, 112, "Emissions from our sites (thousand tonnes CO2e)", size=9.5, face_name="lato-bold", color=DEEP
    )
    carbon = {"Scope 1 and 2": [31.4, 30.2, 28.8, 27.1, 24.9]}
    charts.bars(canvas, (346, 134, RIGHT, 280), YEARS, carbon, [TEAL], top=40, ticks=[0, 10, 20, 30, 40])
    canvas.flow(
        (322, 306, RIGHT, 400),
        "<p>Scope 1 and 2. Closing Dunmere saved 1.4 thousand tonnes; its coke-fired furnace was our largest "
        "single source. "
        "Our goal for 2030 is 12.0.</p>",
        size=9,
    )
    canvas.rect((LEFT, 430, RIGHT, 640), fill=MIST, radius=4)
    canvas.text(68, 458, "Dates for shareholders", size=13, face_name="lato-light", color=DEEP)
    dates = [
        ["Event", "Date"],
        ["Shares trade without the right to the final dividend", "26 June 2025"],
        ["Annual general meeting, Weir House, Harrowmouth, 11 a.m.", "17 July 2025"],
        ["Final dividend of 7.4 pence paid", "8 August 2025"],
        ["Half-year results", "20 November 2025"],
        ["Interim dividend paid", "16 January 2026"],
        ["Results for the year to 31 March 2026", "21 May 2026"],
    ]
    canvas.table(64, 470, [340, 126], dates, size=9.4, row_height=22, accent=TEAL)
    canvas.flow(
        (LEFT, 662, RIGHT, 800),
        "<p><b>Registered office</b> Weir House, 4 Sluice Lane, Harrowmouth. <b>Registrar</b> Pennant Share "
        "Services, who "
        "answer questions about lost certificates and unpaid dividends. <b>Auditor</b> Calloway Pell LLP. "
        "<b>Stockbroker</b> "
        "Harkness Vane.</p><p style='color:#667784'>What we say about the future is what we expect today; it "
        "may turn out "
        "differently, for the reasons on page 4 among others.</p>",
    )


def make() -> bytes:
    """Eleven pages, three of them numbered in roman."""
    document = pymupdf.open()
    _cover(Canvas(document))
    for draw in (
        _contents,
        _letter,
        _key_figures,
        _segments,
        _metering,
        _risks,
        _statements,
        _balance,
        _notes,
        _outlook,
    ):
        draw(document)
    outline = [
        (1, "Cover", 1),
        (1, "Contents and at a glance", 2),
        (1, "Letter to shareholders", 3),
        (1, "Performance", 4),
        (2, "Key figures", 4),
        (2, "Segment results", 5),
        (2, "Metering and regions", 6),
        (1, "Principal risks", 7),
        (1, "Financial statements", 8),
        (2, "Income statement and cash flow", 8),
        (2, "Balance sheet", 9),
        (2, "Notes", 10),
        (1, "Sustainability and outlook", 11),
    ]
    labels = [{"startpage": 0, "prefix": "", "style": "r", "firstpagenum": 1}]
    labels += [{"startpage": 3, "prefix": "", "style": "D", "firstpagenum": 1}]
    title = "Tarnwell Water Systems plc: Annual Report and Accounts 2024/25"
    return save(
        document, title=title, author="Tarnwell Water Systems plc", date="20250522", outline=outline, labels=labels
    )
