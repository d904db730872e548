"""A Japanese safety bulletin of a factory that does not exist."""

# ruff: noqa: RUF001 - full-width punctuation belong on these pages

from __future__ import annotations

import pymupdf

from . import charts
from .drawing import GREY, INK, Box, Canvas, save

ORANGE, GREEN, NAVY, CREAM = "#e8742a", "#1f7a55", "#17324d", "#fff6e8"
LEFT, RIGHT = 46.0, 549.0
FACES = ("jp", "jp-bold")

INJURIES = [
    ["けがの種類", "2025年度上期", "2024年度上期", "増減"],
    ["転倒", "7", "9", "-2"],
    ["切り傷", "6", "8", "-2"],
    ["はさまれ・巻き込まれ", "4", "5", "-1"],
    ["落下物", "3", "3", "0"],
    ["やけど", "2", "4", "-2"],
    ["合計", "22", "29", "-7"],
]
DRILLS = [
    ["日付", "時刻", "内容", "対象", "集合場所"],
    ["10月8日（水）", "10:00", "フォークリフト実技講習", "物流課", "第3倉庫前"],
    ["10月15日（水）", "14:30", "避難訓練（地震・火災）", "全員", "正門駐車場"],
    ["10月22日（水）", "9:30", "消火器の使い方", "新入社員", "防災広場"],
    ["10月29日（水）", "13:00", "救急救命（AED）", "各班2名", "食堂"],
]


def _head(canvas: Canvas, title: str, size: float) -> None:
    canvas.rect((0, 0, 595, 96), fill=GREEN)
    for index in range(-1, 26):
        x = index * 24.0
        canvas.path(
            [(x, 104), (x + 12, 96), (x + 24, 96), (x + 12, 104)], color=None, fill=ORANGE if index % 2 else NAVY
        )
    canvas.circle((80, 48), 27, fill="#ffffff")
    canvas.rect((75, 31, 85, 65), fill=GREEN)
    canvas.rect((63, 43, 97, 53), fill=GREEN)
    canvas.text(124, 62, title, size=size, face_name="jp-bold", color="#ffffff")


def _heading(canvas: Canvas, x: float, y: float, text: str) -> None:
    canvas.rect((x, y - 13, x + 5, y + 4), fill=ORANGE)
    canvas.text(x + 12, y, text, size=14, face_name="jp-bold", color=NAVY)


def _text(canvas: Canvas, box: Box, html: str, size: float = 10.2) -> float:
    return canvas.flow(box, html, size=size, css="li {margin:0 0 3pt 0} p {margin:0 0 5pt 0}", lead=1.6)


def _foot(canvas: Canvas, number: int) -> None:
    canvas.line((LEFT, 808), (RIGHT, 808))
    canvas.text(LEFT, 822, "青嶺精機株式会社　第二工場　安全衛生委員会", size=8.5, color=GREY)
    canvas.text(RIGHT, 822, f"{number}／2", size=8.5, color=GREY, align="right")


def _forklift(canvas: Canvas, x: float, y: float) -> None:
    """A drawing of the three metres to keep from a forklift."""
    canvas.rect((x - 14, y - 14, x + 226, y + 138), fill=CREAM, radius=6)
    canvas.rect((x + 62, y + 54, x + 124, y + 88), fill=ORANGE, radius=5)
    canvas.path([(x + 70, y + 54), (x + 76, y + 18), (x + 108, y + 18), (x + 114, y + 54)], color=NAVY, width=3)
    canvas.circle((x + 92, y + 34), 7, fill=NAVY)
    canvas.rect((x + 86, y + 41, x + 99, y + 56), fill=NAVY)
    canvas.rect((x + 52, y + 8, x + 57, y + 96), fill=NAVY)
    canvas.rect((x + 14, y + 90, x + 56, y + 94), fill=NAVY)
    canvas.rect((x + 12, y + 58, x + 48, y + 88), fill="#c79a5b")
    for wheel in (76, 112):
        canvas.circle((x + wheel, y + 92), 11, fill=INK)
        canvas.circle((x + wheel, y + 92), 4, fill="#ffffff")
    canvas.circle((x + 196, y + 42), 8, fill=GREEN)
    canvas.rect((x + 188, y + 52, x + 204, y + 82), fill=GREEN, radius=4)
    canvas.line((x + 192, y + 82), (x + 192, y + 102), color=GREEN, width=5)
    canvas.line((x + 200, y + 82), (x + 200, y + 102), color=GREEN, width=5)
    canvas.line((x, y + 103), (x + 214, y + 103), color=GREY, width=1)
    canvas.arrow((x + 160, y + 115), (x + 128, y + 115), color=ORANGE)
    canvas.arrow((x + 160, y + 115), (x + 190, y + 115), color=ORANGE)
    canvas.text(x + 159, y + 131, "3メートル以上", size=10, face_name="jp-bold", color=ORANGE, align="center")


def _first(document: pymupdf.Document) -> None:
    canvas = Canvas(document, family="jp")
    _head(canvas, "安全だより", 40)
    canvas.text(RIGHT, 44, "2025年10月号（第118号）", size=11, color="#ffffff", align="right")
    canvas.text(RIGHT, 64, "発行日　2025年10月1日", size=10, color="#ffffff", align="right")
    _heading(canvas, LEFT, 138, "今月の重点：フォークリフトとの接触をなくそう")
    _text(
        canvas,
        (LEFT, 150, 300, 400),
        "<p>9月18日の午後、第3倉庫の出入口で、台車を押していた社員がバックしてきたフォークリフトと接触し、右足首を捻挫しました。"
        "運転者は荷物で後ろが見えず、誘導者もいませんでした。</p><p>この事故を受けて、次のことを<b>10月6日から全員の決まり</b>とします。</p>"
        "<ul><li>走行中のフォークリフトから3メートル以上離れる。</li><li>倉庫の出入口では必ず一度止まり、指差し確認をする。</li>"
        "<li>バックするときは誘導者を付ける。</li><li>構内の制限速度は時速8キロとする。</li></ul>",
    )
    _forklift(canvas, 324, 164)
    canvas.text(324, 326, "運転には技能講習の修了証が必要です。", size=9.5, color=GREY)
    canvas.text(324, 342, "修了証のない人は絶対に運転しないでください。", size=9.5, color=GREY)
    _heading(canvas, LEFT, 422, "上期（4月～9月）のけがの件数")
    canvas.table(
        LEFT,
        436,
        [120, 62, 62, 36],
        INJURIES,
        size=8.6,
        row_height=22,
        head_fill=NAVY,
        zebra=CREAM,
        bold=[6],
        faces=FACES,
    )
    canvas.text(352, 442, "月別の件数（2025年度）", size=10, face_name="jp-bold", color=NAVY)
    months = ["4月", "5月", "6月", "7月", "8月", "9月"]
    counts = {"件数": [5.0, 4.0, 3.0, 4.0, 3.0, 3.0]}
    charts.bars(canvas, (366, 456, RIGHT, 574), months, counts, [ORANGE], top=6, ticks=[0, 2, 4, 6], size=8, decimals=0)
    _text(
        canvas,
        (LEFT, 604, RIGHT, 670),
        "<p>けがは前の年より7件減りました。休業4日以上の災害は1件（5月、プレス機での指の骨折）です。一番多い転倒の半分は、"
        "雨の日の通用口で起きています。濡れた靴は必ずマットで拭いてください。</p>",
    )
    canvas.rect((LEFT, 690, RIGHT, 790), fill=CREAM, stroke=ORANGE, width=1, radius=6)
    canvas.text(LEFT + 16, 714, "工場長から", size=12, face_name="jp-bold", color=ORANGE)
    _text(
        canvas,
        (LEFT + 16, 722, RIGHT - 16, 788),
        "<p>急いでいるときほど、一度止まってください。納期は一日延ばせますが、けがは元に戻せません。気付いたことは、どんなに小さくても"
        "「ヒヤリハット用紙」に書いて青い箱に入れてください。</p>",
    )
    canvas.text(RIGHT - 16, 778, "工場長　遠峰 宗一郎", size=10.2, align="right")
    _foot(canvas, 1)


def _second(document: pymupdf.Document) -> None:
    canvas = Canvas(document, family="jp")
    _head(canvas, "洗浄剤の扱いと10月の訓練", 26)
    _heading(canvas, LEFT, 138, "新しい洗浄剤「ミナクリア55」の使い方")
    _text(
        canvas,
        (LEFT, 150, RIGHT, 370),
        "<p>部品洗浄に使う溶剤を、10月1日から水で薄めるタイプの「ミナクリア55」に切り替えます。引火の心配はありませんが、アルカリ性が強く、"
        "目に入ると失明のおそれがあります。</p><ul><li>必ず水を先に入れ、その後に原液を入れる（水20リットルに原液1リットル）。</li>"
        "<li>保護めがね、ゴム手袋、前掛けを着ける。</li><li>液の温度は60度を超えないようにする。</li>"
        "<li>目に入ったときは、すぐに流水で15分以上洗い、医務室（内線 4119）に連絡する。</li>"
        "<li>使い終わった液は排水口に流さず、黄色のドラム缶に入れる。回収は毎週金曜日。</li></ul>",
        size=11.6,
    )
    _heading(canvas, LEFT, 388, "10月の訓練と講習")
    widths = [100, 52, 165, 86, 100]
    canvas.table(
        LEFT,
        402,
        widths,
        DRILLS,
        size=9.6,
        row_height=26,
        left=(0, 1, 2, 3, 4),
        head_fill=NAVY,
        zebra=CREAM,
        faces=FACES,
    )
    canvas.text(
        LEFT,
        550,
        "避難訓練の日は、14時25分までに機械を止めてください。雨天の場合は10月16日に延期します。",
        size=9.5,
        color=GREY,
    )
    _heading(canvas, LEFT, 590, "地震のときの行動")
    steps = [
        ("1", "身を守る", "機械から離れ、頭を守る"),
        ("2", "止める", "非常停止ボタンを押す"),
        ("3", "逃げる", "緑の線に沿って外へ"),
    ]
    steps += [("4", "知らせる", "班長が人数を報告する")]
    for index, (number, name, note) in enumerate(steps):
        x = LEFT + index * 128
        canvas.rect((x, 606, x + 112, 690), fill=CREAM, radius=6)
        canvas.circle((x + 20, 630), 12, fill=ORANGE)
        canvas.text(x + 20, 635, number, size=13, face_name="jp-bold", color="#ffffff", align="center")
        canvas.text(x + 40, 636, name, size=14, face_name="jp-bold", color=NAVY)
        canvas.text(x + 56, 670, note, size=8.8, align="center")
        if index < 3:
            canvas.arrow((x + 114, 648), (x + 127, 648), color=GREEN, width=2)
    canvas.rect((LEFT, 714, RIGHT, 792), stroke=GREEN, width=1.2, radius=6)
    canvas.text(LEFT + 14, 736, "緊急連絡先", size=12, face_name="jp-bold", color=GREEN)
    for index, row in enumerate(
        (
            "火災・救急　119（発信後、守衛所 内線 4000 にも連絡）",
            "医務室　内線 4119　　安全課（担当：水無瀬）　内線 4152",
        )
    ):
        canvas.text(LEFT + 14, 758 + index * 20, row, size=11)
    _foot(canvas, 2)


def make() -> bytes:
    """Two pages: accidents and figures, then chemicals and drills."""
    document = pymupdf.open()
    _first(document)
    _second(document)
    outline = [(1, "フォークリフトとけがの件数", 1), (1, "洗浄剤と訓練", 2)]
    return save(
        document,
        title="安全だより 2025年10月号",
        author="青嶺精機株式会社",
        date="20251001",
        outline=outline,
        language="ja",
    )
