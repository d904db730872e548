"""A German rental contract, with parties and a town that do not exist."""

# ruff: noqa: RUF001 - dashes belong on these pages

from __future__ import annotations

import pymupdf

from .drawing import GREY, INK, Box, Canvas, save

GREEN, LIGHT = "#2f5d3a", "#eef3ee"
LEFT, RIGHT = 62.0, 537.0

PARTIES = """
<p>zwischen der <b>Wohnbau Hohenweiden eG</b>, Gerbergasse 11, 00817 Hohenweiden, vertreten durch Frau Dr. Annegret
Sieveling – im Folgenden „Vermieterin“ –</p><p>und Herrn <b>Jannik Thorwaldt</b> und Frau <b>Mirela Sandhaus</b>,
bisher wohnhaft Am Kalkofen 4, 00822 Brinkersfelde – im Folgenden „Mieter“ –</p><p>wird der folgende Vertrag
geschlossen:</p>
"""
FIRST = """
<h3>§ 1 Mieträume</h3><p>(1) Vermietet wird die Wohnung Nr. 14 im dritten Obergeschoss rechts des Hauses Ulmenstraße
27, 00817 Hohenweiden, bestehend aus drei Zimmern, Küche, Bad, Flur und Balkon, mit einer Wohnfläche von 78,40 m². (2)
Mitvermietet sind das Kellerabteil Nr. 14 und der Stellplatz Nr. 6 im Hof. (3) Waschküche und Trockenraum dürfen nach
dem aushängenden Plan mitbenutzt werden.</p>
<h3>§ 2 Mietzeit</h3><p>(1) Das Mietverhältnis beginnt am 1. Oktober 2025 und läuft auf unbestimmte Zeit. (2) Beide
Seiten verzichten bis zum 30. September 2026 auf eine ordentliche Kündigung. (3) Danach können die Mieter bis zum
dritten Werktag eines Monats zum Ablauf des übernächsten Monats kündigen. Die Kündigung bedarf der Schriftform.</p>
<h3>§ 3 Miete</h3><p>(1) Die Miete ist monatlich im Voraus, spätestens am dritten Werktag, zu zahlen. Sie setzt sich
wie folgt zusammen:</p>
"""
RENT = [
    ["Bestandteil", "Euro im Monat"],
    ["Grundmiete (kalt)", "742,00"],
    ["Vorauszahlung Betriebskosten", "138,00"],
    ["Vorauszahlung Heizung und Warmwasser", "96,00"],
    ["Stellplatz Nr. 6", "55,00"],
    ["Gesamtmiete", "1.031,00"],
]
AFTER_RENT = """
<p>(2) Die Zahlung erfolgt auf das Konto der Vermieterin, IBAN DE00 0081 7000 0004 4711 27. (3) Über die
Vorauszahlungen wird jährlich bis zum 30. Juni abgerechnet. (4) Die Grundmiete wird bis zum 30. September 2027 nicht
erhöht.</p>
"""
SECOND = """
<h3>§ 4 Kaution</h3><p>(1) Die Mieter leisten eine Sicherheit in Höhe von drei Grundmieten, das sind 2.226,00 Euro.
(2) Sie kann in drei gleichen Raten gezahlt werden, die erste bei Einzug. (3) Die Vermieterin legt das Geld getrennt
von ihrem Vermögen an und gibt es spätestens sechs Monate nach dem Auszug mit Zinsen zurück.</p>
<h3>§ 5 Haustiere</h3><p>Kleintiere wie Hamster, Ziervögel und Zierfische sind erlaubt. Katzen und Hunde bedürfen der
Zustimmung, die nur aus wichtigem Grund versagt wird. Der bei Vertragsschluss vorhandene Kater „Mauke“ ist
genehmigt.</p>
<h3>§ 6 Kleinreparaturen</h3><p>Die Mieter tragen die Kosten kleiner Reparaturen an Teilen, die ihrem häufigen Zugriff
unterliegen, etwa Wasserhähnen, Schaltern und Rollladengurten, bis zu 90 Euro im Einzelfall und höchstens 300 Euro im
Jahr.</p>
<h3>§ 7 Schönheitsreparaturen</h3><p>Die Wohnung wird frisch gestrichen übergeben. Beim Auszug sind Dübellöcher zu
schließen und farbige Wände in einem hellen, neutralen Ton zu streichen. Eine Pflicht zum regelmäßigen Renovieren
besteht nicht.</p>
<h3>§ 8 Hausordnung</h3><p>(1) Von 22 bis 7 Uhr und sonntags von 13 bis 15 Uhr ist Ruhe zu halten. (2) Musizieren ist
täglich bis zu zwei Stunden erlaubt. (3) Das Treppenhaus ist kein Abstellplatz; Kinderwagen dürfen im Erdgeschoss
unter der Treppe stehen. (4) Grillen mit Holzkohle ist auf dem Balkon nicht gestattet. (5) Im Winter räumen die Mieter
im Wechsel nach dem Plan im Hausflur den Schnee auf dem Gehweg, werktags bis 7 Uhr.</p>
<h3>§ 9 Untervermietung</h3><p>Die Aufnahme von Ehegatten, Lebenspartnern und Kindern ist anzuzeigen. Wer ein Zimmer
untervermieten will, braucht die Erlaubnis der Vermieterin; ein Zuschlag wird nicht erhoben.</p>
<h3>§ 10 Betreten der Wohnung</h3><p>Die Vermieterin darf die Wohnung zum Ablesen der Zähler und bei Schäden nach
Anmeldung mit einer Frist von drei Tagen betreten, bei Gefahr sofort.</p>
<h3>§ 11 Schlüssel</h3><p>Die Mieter erhalten vier Wohnungsschlüssel, zwei Hausschlüssel, einen Kellerschlüssel und
einen Briefkastenschlüssel. Der Verlust ist sofort zu melden.</p>
"""
METERS = [
    ["Zähler", "Nummer", "Ort", "Stand"],
    ["Strom", "1 ABX 0048 8172", "Keller, Feld 14", "31.406,2 kWh"],
    ["Kaltwasser", "KW-7719-03", "Bad, hinter der Klappe", "212,418 m³"],
    ["Warmwasser", "WW-7719-04", "Bad, hinter der Klappe", "96,730 m³"],
    ["Heizung Wohnzimmer", "HKV 55120", "Heizkörper", "1.284"],
    ["Heizung Schlafzimmer", "HKV 55121", "Heizkörper", "377"],
]
DEFECTS = [
    ("Küche", "Fliese neben dem Herd gesprungen", "bleibt, wird den Mietern nicht angelastet"),
    ("Bad", "Silikonfuge an der Wanne schadhaft", "Erneuerung bis 15. Oktober 2025"),
    ("Wohnzimmer", "Parkett mit Kratzern vor der Balkontür", "bleibt"),
    ("Balkon", "Markise klemmt", "Fachbetrieb wird beauftragt"),
    ("Keller", "Türschloss fehlt", "von den Mietern selbst gestellt"),
]


def _page(document: pymupdf.Document, number: int) -> Canvas:
    canvas = Canvas(document, family="sans")
    canvas.rect((LEFT, 38, LEFT + 22, 60), fill=GREEN)
    canvas.path([(LEFT + 4, 52), (LEFT + 11, 43), (LEFT + 18, 52)], color="#ffffff", width=2)
    canvas.text(LEFT + 30, 48, "Wohnbau Hohenweiden eG", size=10, face_name="sans-bold", color=GREEN)
    canvas.text(LEFT + 30, 59, "Gemeinsam wohnen seit 1926", size=7.5, color=GREY)
    canvas.text(RIGHT, 48, "Vertrag Nr. 27-14-2025", size=8.5, color=GREY, align="right")
    canvas.line((LEFT, 68), (RIGHT, 68), color=GREEN, width=0.8)
    canvas.text((LEFT + RIGHT) / 2, 812, f"Seite {number} von 3", size=8.5, color=GREY, align="center")
    return canvas


def _text(canvas: Canvas, box: Box, html: str, size: float = 11.4) -> float:
    css = "h3 {font-size:11pt; margin:8pt 0 3pt 0; color:#2f5d3a} p {margin:0 0 4pt 0; text-align:justify}"
    return canvas.flow(box, html, size=size, css=css, lead=1.38)


def _handover(canvas: Canvas) -> None:
    canvas.text(LEFT, 104, "Anlage: Übergabeprotokoll", size=17, face_name="sans-bold", color=INK)
    text = "<p>Die Wohnung wurde am 30. September 2025 um 16 Uhr besichtigt und übergeben.</p><h3>Zählerstände</h3>"
    bottom = _text(canvas, (LEFT, 116, RIGHT, 200), text)
    bottom = canvas.table(
        LEFT,
        bottom + 4,
        [125, 110, 140, 100],
        METERS,
        size=9.6,
        row_height=23,
        left=(0, 1, 2),
        head_fill=GREEN,
        zebra=LIGHT,
    )
    bottom = _text(canvas, (LEFT, bottom + 10, RIGHT, bottom + 40), "<h3>Festgestellte Mängel</h3>")
    rows = [["Raum", "Mangel", "Vereinbarung"], *([*defect] for defect in DEFECTS)]
    bottom = canvas.table(
        LEFT, bottom + 4, [75, 190, 210], rows, size=9.6, row_height=23, left=(0, 1, 2), head_fill=GREEN, zebra=LIGHT
    )
    text = """<h3>Weitere Vereinbarungen</h3><p>Die Einbauküche (Herd, Spüle, Kühlschrank) wird zum Gebrauch
überlassen. Die Mieter dürfen auf eigene Kosten eine Ladestation am Stellplatz Nr. 6 anbringen lassen, sofern ein
Fachbetrieb sie abnimmt. Die Rauchmelder wurden geprüft. Störungen der Heizung nimmt der Notdienst unter 01632 960 340
rund um die Uhr entgegen.</p>
<p>Hohenweiden, den 30. September 2025</p>"""
    bottom = _text(canvas, (LEFT, bottom + 8, RIGHT, bottom + 160), text)
    y = bottom + 62
    for x, name, role in (
        (LEFT, "A. Sieveling", "für die Vermieterin"),
        (224, "J. Thorwaldt", "Mieter"),
        (386, "M. Sandhaus", "Mieterin"),
    ):
        canvas.text(x + 10, y - 6, name, size=27, face_name="signature", color="#1c3f94")
        canvas.line((x, y), (x + 148, y), color=INK)
        canvas.text(x, y + 12, f"{name}, {role}", size=8.5, color=GREY)


def make() -> bytes:
    """Three pages: contract, house rules and the record of the handover."""
    document = pymupdf.open()
    first = _page(document, 1)
    first.text(LEFT, 108, "Mietvertrag über Wohnraum", size=21, face_name="sans-bold")
    bottom = _text(first, (LEFT, 122, RIGHT, 250), PARTIES)
    bottom = _text(first, (LEFT, bottom + 2, RIGHT, 600), FIRST)
    bottom = first.table(LEFT + 20, bottom + 4, [315, 120], RENT, size=10.6, row_height=22, bold=[5], accent=GREEN)
    _text(first, (LEFT, bottom + 10, RIGHT, 800), AFTER_RENT)
    _text(_page(document, 2), (LEFT, 80, RIGHT, 796), SECOND, size=12)
    _handover(_page(document, 3))
    outline = [(1, "Mieträume, Mietzeit und Miete", 1), (1, "Kaution bis Schlüssel", 2), (1, "Übergabeprotokoll", 3)]
    title = "Mietvertrag Ulmenstraße 27, Wohnung 14"
    return save(document, title=title, author="Wohnbau Hohenweiden eG", date="20250930", outline=outline, language="de")
