"""A quarterly business review in slides, of a bicycle hire company that does not exist."""

from __future__ import annotations

import pymupdf

from . import charts
from .drawing import GREY, HAIR, INK, SLIDE, Canvas, mix, save

NAVY, CORAL, GOLD, GREEN, PALE = "#1b2a4a", "#f0594b", "#f5b841", "#2a9d7f", "#f4f6fa"
BLUE = "#4a7fd6"
WEEKS = [f"W{week}" for week in range(27, 40)]


def _slide(document: pymupdf.Document, number: int, title: str) -> Canvas:
    canvas = Canvas(document, SLIDE, family="open")
    canvas.rect((48, 40, 56, 74), fill=CORAL)
    canvas.text(70, 67, title, size=25, face_name="open-bold", color=NAVY)
    canvas.line((48, 508), (912, 508))
    canvas.text(48, 524, "Velotide  |  Business review Q3 2025  |  Internal", size=9, color=GREY)
    canvas.text(912, 524, str(number), size=10, face_name="open-bold", color=NAVY, align="right")
    return canvas


def _title(document: pymupdf.Document) -> None:
    canvas = Canvas(document, SLIDE, family="open")
    canvas.rect((0, 0, 960, 540), fill=NAVY)
    for ring in range(9):
        shade = mix(NAVY, CORAL, 0.12 + ring * 0.09)
        canvas.circle((760, 300), 250 - ring * 26, stroke=shade)
    for spoke in range(5):
        canvas.circle((760, 300), 10 + spoke, stroke=GOLD)
    canvas.circle((760, 300), 9, fill=GOLD)
    canvas.text(64, 120, "velotide", size=30, face_name="open-bold", color=CORAL)
    canvas.text(64, 252, "Business review", size=48, face_name="open-light", color="#ffffff")
    canvas.text(64, 308, "Third quarter 2025", size=48, face_name="open-light", color="#ffffff")
    canvas.text(64, 364, "July to September  |  Management meeting, 14 October 2025", size=15, color="#c9d4ea")
    canvas.text(
        64, 388, "Presented by Tomasz Verhallen, Operations, and Leila Brandvold, Finance", size=15, color="#c9d4ea"
    )


def _summary(document: pymupdf.Document) -> None:
    canvas = _slide(document, 2, "A record summer, held back by batteries")
    tiles = [
        ("1.84m", "rides", "+22% on Q3 2024", GREEN),
        ("€6.21m", "revenue", "+3.5% on plan", GREEN),
        ("€0.74m", "operating profit", "plan: €0.70m", GREEN),
        ("87.6%", "bikes ready to ride", "goal: 92%", CORAL),
    ]
    for index, (figure, name, note, color) in enumerate(tiles):
        x = 48 + index * 220
        canvas.rect((x, 104, x + 204, 224), fill=PALE, radius=8)
        canvas.rect((x, 104, x + 204, 109), fill=color)
        canvas.text(x + 18, 158, figure, size=34, face_name="open-bold", color=NAVY)
        canvas.text(x + 18, 182, name, size=14)
        canvas.text(x + 18, 205, note, size=12, face_name="open-bold", color=color)
    canvas.flow(
        (48, 252, 912, 500),
        "<ul><li><b>Lissemar and Portmarin</b> grew most: new docks at both railway stations brought 41,000 "
        "first-time riders.</li>"
        "<li><b>Day passes</b> overtook single rides as the second-largest source of revenue.</li>"
        "<li><b>One battery batch (PK-7)</b> caused 46% of all breakdowns. Replacement started in week 37 and "
        "ends in November.</li>"
        "<li><b>Vandalism</b> fell by a third after the new lock was fitted in Brockhaven.</li>"
        "<li>We ask the management to <b>approve 600 bikes for Ostmere</b> (slide 10).</li></ul>",
        size=16.5,
        css="li {margin:0 0 7pt 0}",
    )


REVENUE = [
    ["€ thousand", "Actual", "Plan", "Difference"],
    ["Subscriptions", "2,640", "2,700", "-60"],
    ["Day passes", "1,610", "1,430", "+180"],
    ["Single rides", "1,485", "1,410", "+75"],
    ["Advertising on bikes", "475", "460", "+15"],
    ["Total", "6,210", "6,000", "+210"],
]


def _revenue(document: pymupdf.Document) -> None:
    canvas = _slide(document, 3, "Revenue: day passes made up for slow subscriptions")
    groups = ["Subscriptions", "Day passes", "Single rides", "Advertising"]
    series = {"Actual": [2640, 1610, 1485, 475], "Plan": [2700, 1430, 1410, 460]}
    ticks = [0, 1000, 2000, 3000]
    charts.bars(
        canvas, (90, 130, 500, 440), groups, series, [CORAL, "#b9c3d6"], top=3000, ticks=ticks, size=12, decimals=0
    )
    charts.legend(canvas, 90, 112, {"actual": CORAL, "plan": "#b9c3d6"}, size=12)
    canvas.text(500, 112, "€ thousand, July to September", size=11, color=GREY, align="right")
    canvas.table(
        540, 130, [156, 66, 66, 84], REVENUE, size=13, row_height=32, head_fill=NAVY, bold=[5], accent=NAVY, zebra=PALE
    )
    canvas.flow(
        (540, 348, 912, 490),
        "<p>The new day pass (€9.50, unlimited rides of 45 minutes) sells best at railway stations and ferries. "
        "Subscriptions missed the plan because the student offer started three weeks late, on 22 September.</p>",
        size=13.5,
    )


def _rides(document: pymupdf.Document) -> None:
    canvas = _slide(document, 4, "Rides per week: August beat every week before it")
    this = [118, 124, 131, 139, 146, 158, 163, 167, 161, 149, 137, 128, 119]
    last = [98, 102, 106, 112, 118, 124, 131, 134, 130, 121, 114, 109, 109]
    ticks = [0, 50, 100, 150, 200]
    series = {"2025": this, "2024": last}
    charts.lines(canvas, (90, 120, 840, 430), WEEKS, series, [CORAL, BLUE], top=200, ticks=ticks, unit="k", size=12)
    charts.legend(canvas, 90, 108, {"2025": CORAL, "2024": BLUE}, size=13)
    peak = (90 + 7 * 62.5, 430 - 167 * 1.55)
    canvas.circle(peak, 5, stroke=NAVY)
    canvas.text(peak[0], peak[1] - 14, "W34: 167,000 rides, street festival in Portmarin", size=12, align="center")
    canvas.text(90 + 10 * 62.5 + 6, 430 - 137 * 1.55 - 10, "heavy rain from W37", size=11, color=GREY)
    note = "Total of the quarter: 1.84 million rides, after 1.51 million in the third quarter of 2024."
    canvas.text(48, 488, note, size=14, face_name="open-bold", color=NAVY)


CITIES = [
    ["City", "Bikes", "Jul", "Aug", "Sep", "Quarter"],
    ["Brockhaven", "1,450", "93%", "92%", "91%", "92%"],
    ["Lissemar", "820", "91%", "89%", "86%", "89%"],
    ["Portmarin", "1,120", "88%", "84%", "79%", "84%"],
    ["Sankt Alwin", "640", "90%", "86%", "81%", "86%"],
    ["Ter Velde", "390", "85%", "80%", "77%", "81%"],
]


def _cities(document: pymupdf.Document) -> None:
    canvas = _slide(document, 5, "Bikes ready to ride: the shortage is worst in Ter Velde")
    widths = [150, 80, 84, 84, 84, 96]
    canvas.table(48, 108, widths, CITIES[:1], size=14, row_height=42, head_fill=NAVY)
    for index, row in enumerate(CITIES[1:]):
        x, top = 48.0, 150 + index * 46
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            if column >= 2:
                share = int(cell.rstrip("%"))
                shade = mix("#f7c9c2", "#bfe5d6", min(1, max(0, (share - 78) / 14)))
                canvas.rect((x + 2, top + 3, x + width - 2, top + 43), fill=shade, radius=3)
            strong = "open-bold" if column in {0, 5} else "open"
            at, align = (x + 8, "left") if column == 0 else (x + width - 14, "right")
            canvas.text(at, top + 29, cell, size=15, face_name=strong, align=align)
            x += width
    canvas.text(48, 402, "Share of the fleet that is charged, whole and in place at 7 a.m.", size=12, color=GREY)
    canvas.flow(
        (660, 112, 912, 480),
        "<p><b>Goal: 92% everywhere.</b></p><p>Only Brockhaven gets there. Its bikes have the older battery, "
        "PK-5.</p><p>Ter Velde "
        "has one van for 390 bikes; when the van was in repair for nine days in September, flat bikes stayed "
        "where they "
        "were.</p><p><b>Decided on 2 October:</b> a second van for Ter Velde, on loan from Lissemar until the end "
        "of the year.</p>",
        size=15,
        css="p {margin:0 0 9pt 0}",
    )


def _causes(document: pymupdf.Document) -> None:
    canvas = _slide(document, 6, "Why bikes break down: battery batch PK-7")
    causes = {
        "Battery PK-7 loses charge": 46,
        "Flat tyre": 19,
        "Brake worn or misaligned": 13,
        "Lock jammed": 9,
        "Display or app link": 7,
        "Other": 6,
    }
    charts.across(
        canvas, (48, 120, 560, 410), causes, BLUE, top=50, unit="%", size=13, label_width=200,
        highlight={"Battery PK-7 loses charge": CORAL},
    )  # fmt: skip
    canvas.text(48, 108, "Share of 12,480 breakdowns, third quarter", size=12, color=GREY)
    canvas.rect((592, 104, 912, 480), fill=PALE, radius=8)
    canvas.flow(
        (612, 120, 894, 474),
        "<p><b>What we know</b></p><ul><li>PK-7 cells lose a fifth of their charge below 12 "
        "degrees.</li><li>2,310 bikes carry them, "
        "all delivered between March and May.</li><li>The maker, Corvane Cells, accepts the fault and pays for "
        "new packs, not "
        "for our work.</li></ul><p><b>What we do</b></p><ul><li>260 packs a week are exchanged in the Lissemar "
        "workshop.</li><li>410 done by 30 "
        "September, the rest by 21 November.</li><li>Cost of our work: €96,000.</li></ul>",
        size=13.5,
        css="li {margin:0 0 4pt 0}",
    )
    canvas.text(
        48, 470, "Without PK-7, 91.8% of the bikes would have been ready.", size=16, face_name="open-bold", color=NAVY
    )


def _node(canvas: Canvas, box: tuple[float, float, float, float], title: str, note: str, color: str) -> None:
    canvas.rect(box, fill="#ffffff", stroke=color, width=1.6, radius=7)
    middle = (box[0] + box[2]) / 2
    canvas.text(middle, box[1] + 26, title, size=14, face_name="open-bold", color=color, align="center")
    canvas.text(middle, box[1] + 45, note, size=10.5, color=INK, align="center")


def _system(document: pymupdf.Document) -> None:
    canvas = _slide(document, 7, "How a ride is unlocked")
    canvas.rect((226, 100, 492, 470), fill=PALE, radius=10)
    canvas.text(240, 122, "Street", size=12, face_name="open-bold", color=GREY)
    canvas.rect((520, 100, 912, 470), fill=mix(PALE, BLUE, 0.1), radius=10)
    canvas.text(534, 122, "Data centre", size=12, face_name="open-bold", color=GREY)
    _node(canvas, (48, 150, 196, 210), "Rider's phone", "scans the code", CORAL)
    _node(canvas, (48, 350, 196, 410), "Service crew", "tablet in the van", CORAL)
    _node(canvas, (252, 150, 466, 210), "Bike lock", "opens within 2 seconds", NAVY)
    _node(canvas, (252, 250, 466, 310), "Dock gateway", "LTE-M radio, one per station", NAVY)
    _node(canvas, (252, 350, 466, 410), "Battery sensor", "charge every 10 minutes", NAVY)
    _node(canvas, (548, 150, 716, 210), "Ride service", "starts and ends rides", BLUE)
    _node(canvas, (548, 250, 716, 310), "Message queue", "keeps 72 hours", BLUE)
    _node(canvas, (548, 350, 716, 410), "Fleet planner", "routes the vans at 4 a.m.", BLUE)
    _node(canvas, (744, 150, 896, 210), "Payments", "Ferrant Pay", GREEN)
    _node(canvas, (744, 350, 896, 410), "Weather feed", "hourly", GREEN)
    canvas.arrow((196, 180), (252, 180))
    canvas.arrow((359, 210), (359, 250))
    canvas.arrow((359, 350), (359, 310))
    canvas.arrow((466, 280), (548, 280))
    canvas.arrow((632, 250), (632, 210))
    canvas.arrow((632, 310), (632, 350))
    canvas.arrow((716, 180), (744, 180))
    canvas.arrow((744, 380), (716, 380))
    canvas.line((548, 395), (507, 395), color=GREY, width=1.2)
    canvas.line((507, 395), (507, 440), color=GREY, width=1.2)
    canvas.line((507, 440), (122, 440), color=GREY, width=1.2)
    canvas.arrow((122, 440), (122, 410))
    canvas.text(314, 434, "tour list for each van", size=10.5, color=GREY, align="center")
    canvas.text(
        48, 494, "If a gateway is offline, the lock trusts the phone for one ride and settles up later.", size=13
    )


TASKS = [
    ("Exchange PK-7 packs", "Lissemar workshop", 0, 8, CORAL),
    ("Winter tyres, all cities", "Service crews", 3, 9, BLUE),
    ("Student offer, second wave", "Marketing", 2, 7, GOLD),
    ("New lock in Portmarin", "Service crews", 6, 13, BLUE),
    ("App 5.0 with group rides", "Product", 1, 11, GREEN),
    ("Ostmere: permits and docks", "City team", 4, 13, NAVY),
]


def _roadmap(document: pymupdf.Document) -> None:
    canvas = _slide(document, 8, "Plan for the fourth quarter")
    left, week = 300.0, 612 / 13
    for index, (name, start, span) in enumerate((("October", 0, 4.4), ("November", 4.4, 4.3), ("December", 8.7, 4.3))):
        x = left + start * week
        canvas.rect((x + 1, 100, x + span * week - 1, 128), fill=mix(NAVY, BLUE, index * 0.4), radius=3)
        canvas.text(x + span * week / 2, 119, name, size=13, face_name="open-bold", color="#ffffff", align="center")
    for index, (name, team, start, end, color) in enumerate(TASKS):
        y = 146 + index * 54
        canvas.text(48, y + 18, name, size=14.5, face_name="open-bold", color=NAVY)
        canvas.text(48, y + 35, team, size=11.5, color=GREY)
        canvas.rect((left + start * week, y + 4, left + end * week, y + 34), fill=color, radius=6)
        canvas.line((48, y + 46), (912, y + 46), width=0.5)
    today = left + 2 * week
    canvas.line((today, 132), (today, 470), color=CORAL, width=1.4, dash="[4 3] 0")
    canvas.text(today + 4, 484, "today", size=11, color=CORAL)
    canvas.text(left + 8 * week + 6, 170, "done 21 November", size=11.5)
    canvas.text(left + 11 * week + 6, 386, "12 December", size=11.5)


COSTS = [
    ["€ thousand", "Q3 2025", "Q3 2024", "Change"],
    ["Service crews and vans", "2,180", "1,790", "+390"],
    ["Depreciation of bikes and docks", "1,320", "1,240", "+80"],
    ["Electricity and network", "405", "372", "+33"],
    ["Payments and support", "610", "548", "+62"],
    ["Insurance and permits", "455", "430", "+25"],
    ["Head office", "500", "490", "+10"],
    ["Total costs", "5,470", "4,870", "+600"],
]


def _costs(document: pymupdf.Document) -> None:
    canvas = _slide(document, 9, "Costs: each ride became cheaper, crews did not")
    canvas.table(
        48, 108, [250, 80, 80, 80], COSTS, size=13.5, row_height=36, head_fill=NAVY, bold=[7], accent=NAVY, zebra=PALE
    )
    canvas.text(586, 122, "Cost per ride (€)", size=14, face_name="open-bold", color=NAVY)
    points = ["Q3 23", "Q1 24", "Q3 24", "Q1 25", "Q3 25"]
    cost = {"Cost": [3.61, 3.92, 3.23, 3.55, 2.97]}
    charts.bars(
        canvas, (610, 150, 912, 360), points, cost, [BLUE], top=5, ticks=[0, 1, 2, 3, 4, 5], size=12, decimals=2
    )
    canvas.flow(
        (48, 414, 912, 500),
        "<p>Revenue of €6,210 thousand less costs of €5,470 thousand leaves an operating profit of <b>€740 "
        "thousand</b>. Overtime "
        "for battery exchange added €118 thousand to the cost of the crews. Winter quarters cost more per ride "
        "because "
        "fewer people ride.</p>",
        size=14,
    )


def _decisions(document: pymupdf.Document) -> None:
    canvas = _slide(document, 10, "What we ask you to decide")
    asks = [
        (
            "1",
            "Approve 600 bikes and 45 stations for Ostmere",
            "€1.9m, opening on 1 April 2026; pays back in 31 months",
        ),
        ("2", "Make PK-5 the only battery until winter is over", "Keeps 200 spare packs in stock, €64,000"),
        ("3", "Raise the single ride from €2.40 to €2.60", "Brings €240,000 a year if 4% of rides are lost"),
    ]
    for index, (number, title, note) in enumerate(asks):
        y = 104 + index * 96
        canvas.rect((48, y, 912, y + 82), fill=PALE, radius=8)
        canvas.circle((92, y + 41), 22, fill=CORAL)
        canvas.text(92, y + 49, number, size=22, face_name="open-bold", color="#ffffff", align="center")
        canvas.text(134, y + 36, title, size=18, face_name="open-bold", color=NAVY)
        canvas.text(134, y + 60, note, size=14)
    canvas.text(48, 424, "Risks", size=16, face_name="open-bold", color=CORAL)
    canvas.flow(
        (48, 432, 912, 500),
        "<p>The city council of Ostmere votes on 18 November. If it wants docks away from pavements, 12 "
        "stations need new sites "
        "and opening moves to June. A cold October would show PK-7 losses before the packs are exchanged.</p>",
        size=14,
    )
    canvas.line((48, 404), (912, 404), color=HAIR)


def make() -> bytes:
    """Ten slides with charts, a heat map, a diagram and a schedule."""
    document = pymupdf.open()
    slides = (_title, _summary, _revenue, _rides, _cities, _causes, _system, _roadmap, _costs, _decisions)
    for draw in slides:
        draw(document)
    names = [
        "Title",
        "Summary",
        "Revenue",
        "Rides per week",
        "Bikes ready to ride",
        "Breakdowns",
        "How a ride is unlocked",
    ]
    names += ["Plan", "Costs", "Decisions"]
    outline = [(1, name, page) for page, name in enumerate(names, start=1)]
    return save(
        document,
        title="Velotide: Business review, third quarter 2025",
        author="Velotide",
        date="20251014",
        outline=outline,
    )
