"""What is shown, without a terminal or a service: text, figures, screens, pictures."""

import json
import shlex
import sys
import unittest
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo.emulator import Emulator
from demo.figures import Figures, View, histogram_percentile, percentile
from demo.screen import MIN_COLUMNS, commands, render
from demo.svg import picture
from demo.text import bar, clean, cut, left, milliseconds, paint, plain, right, spark, width

URL = "http://127.0.0.1:8080"
ALERT = {
    "detected_at": "2026-11-24T16:51:33.286Z",
    "user_id": "u-117431",
    "amount": "1338.53",
    "currency": "CAD",
    "decision": "review",
    "score": 0.63196856,
    "reasons": [{"message": "Geographic anomaly: 7,760.0 miles from the last login"}, {"message": "Model score 0.63"}],
}
KINDS = {"approve": 9_800, "challenge": 0, "review": 150, "block": 50}
BUSY = View(
    url=URL,
    elapsed_secs=72,
    limit_secs=120,
    kinds=KINDS,
    alerts_total=200,
    other_events=4_000,
    decisions_a_second=141.6,
    rates=(0, 70, 140),
    client=(1.5, 2.5, 12.5),
    alerts=(ALERT,) * 30,
)


def shown(view, columns, rows, unicode=True):
    return [plain(line) for line in render(view, columns, rows, unicode)]


class Text(unittest.TestCase):
    def test_what_could_move_a_cursor_goes(self):
        for found, expected in [
            ("\x1b[31mred\x1b[0m", "[31mred[0m"),
            ("a\r\nb\tc", "a b c"),
            ("\x9b2J\x07bell\x7f", "2Jbell"),
            ("a\u202eb\u200bc\u2028d", "abc d"),
            ("naïve 東京", "naïve 東京"),
            ("\ud800x", "x"),
        ]:
            self.assertEqual(clean(found), expected)

    def test_widths_are_those_of_a_terminal(self):
        self.assertEqual((width("abc"), width("東京"), width("e\u0301")), (3, 4, 1))
        self.assertEqual((cut("abcdef", 4), cut("東京都", 4), cut("abc", 3), cut("abc", 0)), ("abc…", "東…", "abc", ""))
        self.assertEqual((left("ab", 4), right("ab", 4), right("東京都", 4)), ("ab  ", "  ab", " 東…"))

    def test_bars_and_sparks_keep_their_proportions(self):
        self.assertEqual((bar(1, 4), bar(0.5, 4), bar(0, 4), bar(0.0001, 4)), ("████", "██", "", "▏"))
        self.assertEqual(bar(0.5, 4, unicode=False), "##")
        self.assertEqual((spark([0, 1, 8], 3), spark([], 5), spark([1, 2, 3], 2), spark([0], 1)), (" ▁█", "", "▅█", " "))

    def test_times_have_the_decimals_that_mean_something(self):
        found = [milliseconds(value) for value in (None, 0.214, 12.34, 1234.5)]
        self.assertEqual(found, ["-", "0.21 ms", "12.3 ms", "1,234 ms"])


class FiguresOfARun(unittest.TestCase):
    METRICS = """\
# TYPE verdict_decisions_total counter
verdict_decisions_total{{decision="approve",mode="normal"}} {approve}
verdict_decisions_total{{decision="block",mode="degraded"}} 2
verdict_alerts_total 2
verdict_decide_seconds_bucket{{le="0.001"}} {approve}
verdict_decide_seconds_bucket{{le="+Inf"}} {approve}
"""

    def test_percentiles_of_a_histogram_are_interpolated(self):
        infinity = float("inf")
        newer = {0.001: 90, 0.01: 100, infinity: 101}
        self.assertAlmostEqual(histogram_percentile(0.5, newer, {}), 0.001 * 50.5 / 90)
        self.assertAlmostEqual(histogram_percentile(0.95, newer, {}), 0.001 + 0.009 * (95.95 - 90) / 10)
        self.assertEqual(histogram_percentile(0.999, newer, {}), 0.01)
        self.assertAlmostEqual(histogram_percentile(0.5, newer, {0.001: 90, 0.01: 90, infinity: 91}), 0.0055)
        self.assertIsNone(histogram_percentile(0.5, newer, newer))
        self.assertIsNone(histogram_percentile(0.5, {}, {}))

    def test_percentiles_of_values_are_values(self):
        self.assertEqual([percentile(share, list(range(1, 101))) for share in (0.5, 0.95, 0.99)], [50, 95, 99])
        self.assertEqual((percentile(0.99, [7]), percentile(0.5, [])), (7, None))

    def test_a_run_is_summed_up(self):
        figures = Figures()
        for second in range(100):
            figures.add_metrics(second, self.METRICS.format(approve=second * 10))
            figures.add_metrics(second + 0.5, self.METRICS.format(approve=second * 10 + 5))
            figures.add_round_trip(second, float(second))
        figures.add_answer({"login_id": "l", "accepted": True}, "")
        figures.add_answer({"code": "TOO_OLD"}, '{"code": "TOO_OLD"}')
        view = figures.view(url=URL)
        self.assertEqual(view.kinds, {"approve": 995, "challenge": 0, "review": 0, "block": 2})
        self.assertEqual((view.alerts_total, view.other_events, view.notice), (2, 1, 'refused: {"code": "TOO_OLD"}'))
        self.assertEqual((len(view.rates), set(view.rates), view.decisions_a_second), (60, {10.0}, 10.0))
        self.assertEqual(view.client, (69.0, 96.0, 99.0), "of the last minute only")
        self.assertAlmostEqual(view.decide[0], 0.5)

    def test_nothing_yet_is_no_fault(self):
        self.assertEqual(Figures().view(url=URL).client, (None, None, None))


class Screens(unittest.TestCase):
    def test_every_size_is_filled_and_not_overrun(self):
        hostile = ALERT | {"user_id": "東" * 60, "amount": "9" * 40, "reasons": [{"message": "x\x1b[2J" * 60}]}
        for view in (View(url=URL), BUSY, View(url=URL, kinds={"other\n": 1}, alerts=(hostile, {}), notice="\x1b" * 9 + "n" * 300)):
            for columns in (1, 40, 59, 60, 76, 80, 110, 250):
                for rows in (1, 5, 17, 18, 22, 24, 34, 80):
                    lines = shown(view, columns, rows)
                    self.assertEqual(len(lines), rows, (columns, rows))
                    self.assertLessEqual(max(map(width, lines)), columns, (columns, rows))
                    self.assertFalse([line for line in lines if "\x1b" in line or "\n" in line])

    def test_a_common_terminal_shows_everything(self):
        text = "\n".join(shown(BUSY, 80, 24))
        for expected in [
            URL,
            "1:12 of 2:00",
            "142/s  " + " ▄█",
            "10,000 decisions, 200 alerts",
            "1.50 ms  2.50 ms  12.5 ms",
            "9,800   98.0 %",
            "block              50    0.5 %  ▎",
            "verdict_end_to_end_seconds",
            "16:51:33 u-117431       1,338.53 CAD  review    0.632  Geographic anomaly",
            "curl -s '127.0.0.1:8080/v1/alerts?limit=3'",
        ]:
            self.assertIn(expected, text)

    def test_room_gives_every_reason_a_line(self):
        lines = shown(BUSY, 110, 34)
        at = next(number for number, line in enumerate(lines) if "Geographic anomaly" in line)
        self.assertEqual(lines[at].index("Geographic"), lines[at + 1].index("Model score 0.63"))

    def test_the_commands_stay_whole_at_the_bottom(self):
        for columns, rows in ((78, 22), (80, 24), (110, 34)):
            self.assertEqual(shown(BUSY, columns, rows)[-5:], commands(URL))

    def test_the_commands_are_what_the_service_takes(self):
        text = "\n".join(commands(URL)).replace("$(date +%s)", "1").replace("$(date -u +%FT%TZ)", "2026-11-24T16:51:33Z")
        words = shlex.split(text)
        body = json.loads(words[words.index("-d") + 1])
        self.assertEqual((body["transaction_id"], body["timestamp"], len(body)), ("t-1", "2026-11-24T16:51:33Z", 6))

    def test_a_terminal_without_unicode_gets_ascii(self):
        self.assertTrue("".join(shown(BUSY, 80, 24, unicode=False)).isascii())

    def test_a_tiny_terminal_is_told_what_is_missing(self):
        self.assertIn("expected 60x18", "".join(shown(BUSY, MIN_COLUMNS - 1, 24)) + "".join(shown(BUSY, 80, 17)))

    def test_without_colour_there_is_no_escape_code(self):
        lines = render(BUSY, 80, 24)
        self.assertFalse([line for line in lines if "\x1b" in paint(line, False)])
        self.assertIn("\x1b[1;31mblock", "".join(paint(line, True) for line in lines))


class Pictures(unittest.TestCase):
    def screen(self, text, columns=40, rows=3):
        emulator = Emulator(columns, rows)
        emulator.feed(text.encode())
        return emulator

    def test_the_emulator_shows_what_a_terminal_would(self):
        self.assertEqual(self.screen("ab\r\n\x1b[2;3Hc\x1b[1;2H\x1b[K").text(), ["a", "  c", ""])
        self.assertEqual(self.screen("abcdefg", columns=3).text(), ["abc", "def", "g"])
        self.assertEqual(self.screen("\x1b[?7labcdefg", columns=3).text(), ["abg", "", ""])
        self.assertEqual(self.screen("1\r\n2\r\n3\r\n4").text(), ["2", "3", "4"])
        left = self.screen("shell\x1b[?1049h\x1b[?25l\x1b[1;1Hdemo\x1b[?25h\x1b[?1049l$")
        self.assertEqual((left.text()[0], left.text(left.last_screen)[0], left.restored), ("shell$", "demo", True))
        self.assertFalse(self.screen("\x1b[?25l").restored)

    def test_the_emulator_takes_codes_in_pieces_and_refuses_strangers(self):
        emulator = Emulator(9, 2)
        for byte in "\x1b[32mé\x1b[0m".encode():
            emulator.feed(bytes([byte]))
        self.assertEqual(emulator.cells[0][0], ("é", "32"))
        for stranger in ("\x1b]0;title\x07 and more text", "\x1b[5S", "\x07"):
            with self.assertRaises(ValueError):
                self.screen(stranger)

    def test_a_picture_holds_the_words_at_their_columns(self):
        cells = self.screen("\x1b[1;31mblock\x1b[0m  a < b  東京 x\x1b[2;4H\x1b[32m██▌\x1b[0m").cells
        root = ElementTree.fromstring(picture(cells, "a & b"))
        namespace = "{http://www.w3.org/2000/svg}"
        texts = {element.text: element for element in root.iter(f"{namespace}text")}
        self.assertEqual(list(texts), ["block", "a < b", "東京 x"])
        self.assertAlmostEqual(float(texts["a < b"].get("x")), 18 + 7 * 8.4)
        self.assertAlmostEqual(float(texts["東京 x"].get("textLength")), 6 * 8.4)
        self.assertEqual(texts["block"].get("font-weight"), "bold")
        bars = [float(rect.get("width")) for rect in root.iter(f"{namespace}rect")][1:]
        self.assertEqual(bars, [21.0], "blocks that touch are one")


if __name__ == "__main__":
    unittest.main()
