"""An Arabic public notice of a town that does not exist."""

from __future__ import annotations

import pymupdf

from .drawing import HAIR, Box, Canvas, save

BLUE, SAND, PALE = "#14567a", "#d9a441", "#e8f1f6"
LEFT, RIGHT = 56.0, 539.0

OUTAGES = [
    ["الحي", "اليوم", "من الساعة", "إلى الساعة"],
    ["الحي الشمالي", "الأحد 14 سبتمبر", "9:00", "16:00"],
    ["حي البساتين", "الاثنين 15 سبتمبر", "9:00", "17:00"],
    ["حي المدرسة القديمة", "الثلاثاء 16 سبتمبر", "8:00", "13:00"],
    ["حي السوق", "الأربعاء 17 سبتمبر", "10:00", "15:00"],
]
INTRO = """<p>تعلن مصلحة المياه في بلدية مرج السنديان أن المياه ستنقطع عن الأحياء التالية من الأحد 14 إلى الأربعاء 17
سبتمبر 2025، بسبب استبدال الأنبوب الرئيسي القديم في شارع الطاحونة.</p>"""
ADVICE = [
    "تخزين كمية كافية من الماء قبل موعد الانقطاع.",
    "إغلاق صنابير المياه وإطفاء سخانات الماء.",
    "ترك الماء يجري خمس دقائق قبل شربه بعد عودة المياه.",
]
TANKER = """<p>ستقف سيارة صهريج أمام المدرسة القديمة من الساعة 10 إلى الساعة 15 لتوزيع ماء الشرب مجانا. وعلى من
لديه مريض في البيت أن يتصل بنا قبل يوم من الانقطاع.</p>"""


def _text(canvas: Canvas, box: Box, html: str, *, size: float, color: str = "#1f2933", align: str = "right") -> float:
    """Set Arabic, which needs the shaping of a text box even for a single word."""
    align = {"left": "right", "right": "left"}.get(align, align)  # MuPDF turns them round in text from right to left
    return canvas.flow(
        box,
        f"<div dir='rtl' style='text-align:{align}'>{html}</div>",
        size=size,
        color=color,
        css="* {direction:rtl}",
        lead=1.5,
    )


def _table(canvas: Canvas, top: float) -> float:
    edges = [RIGHT, 388.0, 236.0, 146.0, LEFT]  # the first column stands on the right
    for index, row in enumerate(OUTAGES):
        y = top + index * 36
        canvas.rect((LEFT, y, RIGHT, y + 36), fill=BLUE if index == 0 else PALE if index % 2 == 0 else "#ffffff")
        canvas.line((LEFT, y + 36), (RIGHT, y + 36), color=HAIR)
        for column, cell in enumerate(row):
            html, color = (f"<b>{cell}</b>", "#ffffff") if index == 0 else (cell, "#1f2933")
            _text(canvas, (edges[column + 1] + 8, y + 4, edges[column] - 8, y + 36), html, size=14, color=color)
    return top + len(OUTAGES) * 36


def make() -> bytes:
    """One page, read from right to left."""
    document = pymupdf.open()
    canvas = Canvas(document, family="arabic")
    canvas.rect((0, 0, 595, 118), fill=BLUE)
    canvas.rect((0, 118, 595, 124), fill=SAND)
    canvas.circle((92, 58), 34, fill="#ffffff")
    canvas.path([(92, 32), (106, 60), (104, 72), (92, 80), (80, 72), (78, 60)], color=None, fill=BLUE)
    _text(canvas, (150, 20, RIGHT, 70), "<b>بلدية مرج السنديان</b>", size=25, color="#ffffff")
    _text(canvas, (150, 68, RIGHT, 110), "مصلحة المياه", size=17, color="#ffffff")
    _text(canvas, (LEFT, 142, RIGHT, 200), "<b>إعلان إلى السكان</b>", size=28, color=BLUE, align="center")
    _text(canvas, (LEFT, 196, RIGHT, 240), "انقطاع مؤقت للمياه لأعمال الصيانة", size=18, align="center")
    bottom = _text(canvas, (LEFT, 246, RIGHT, 350), INTRO, size=15)
    bottom = _table(canvas, bottom + 8)
    bottom = _text(canvas, (LEFT, bottom + 18, RIGHT, bottom + 60), "<b>نرجو من السكان:</b>", size=16, color=BLUE)
    for advice in ADVICE:
        canvas.circle((RIGHT - 6, bottom + 14), 3, fill=SAND)
        bottom = _text(canvas, (LEFT, bottom, RIGHT - 20, bottom + 40), advice, size=15)
    bottom = _text(canvas, (LEFT, bottom + 10, RIGHT, bottom + 90), TANKER, size=15)
    canvas.rect((LEFT, 718, RIGHT, 756), fill=PALE, radius=5)
    _text(
        canvas,
        (LEFT + 12, 723, RIGHT - 12, 756),
        "للاستفسار: هاتف 01632960455 كل يوم من الساعة 8 إلى الساعة 20",
        size=14,
    )
    _text(canvas, (LEFT, 770, 300, 810), "مرج السنديان، 7 سبتمبر 2025", size=13, align="left")
    _text(canvas, (300, 770, RIGHT, 810), "مديرة مصلحة المياه: سلمى الدرويشي", size=13)
    title = "إعلان انقطاع المياه، سبتمبر 2025"
    return save(document, title=title, author="بلدية مرج السنديان", date="20250907", language="ar")
