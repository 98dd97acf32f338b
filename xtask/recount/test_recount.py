"""Tests of the recount: against sums done by hand, and against a plain loop over rows made at random."""

import csv
import hashlib
import io
import json
import random
import tempfile
import unittest
from contextlib import redirect_stdout
from pathlib import Path

import recount

PRICING = {
    "impression_cost_micros": {"default": 500, "0": 400},
    "click_cost_micros": {"default": 100_000, "1": 120_000},
    "conversion_rate_bp": {"default": 3_000, "1": 5_000},
    "revenue_micros_min": 1_000_000,
    "revenue_micros_max": 1_000_999,
}


def row(**values):
    """A CSV row; what is not said is plain."""
    fields = dict.fromkeys(recount.COLUMNS, "x") | dict.fromkeys(recount.INTEGERS, "0")
    fields |= {"id": "1", "click": "0", "hour": "14102100", "C1": "1005", "C20": "-1"} | values
    return [fields[name] for name in recount.COLUMNS]


class Recount(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)
        self.pricing = self.folder / "pricing.json"
        self.pricing.write_text(json.dumps(PRICING))

    def write(self, rows, header=recount.COLUMNS):
        path = self.folder / "events.csv"
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
        return path

    def windows(self, path, sizes=("1m", "5m"), dimensions=tuple(recount.DIMENSIONS)):
        return list(recount.windows(recount.load(path, self.pricing), sizes, dimensions))

    def run_main(self, *arguments):
        out = io.StringIO()
        with redirect_stdout(out):
            code = recount.main([*map(str, arguments), "--pricing", str(self.pricing)])
        return code, out.getvalue()

    def test_windows_of_two_hours_done_by_hand(self):
        # Three rows of hour 00 lie at 0, 20 and 40 min, the one of hour 01 at its start, in file order of each hour.
        path = self.write(
            [row(id="a"), row(id="b", hour="14102101"), row(id="c", banner_pos="1"), row(id="d", site_category="y")]
        )
        totals = [(w[1], w[5], w[8]) for w in self.windows(path, ["1m"], ["total"])]
        expected = [
            ("2014-10-21T00:00:00Z", 1, 400),
            ("2014-10-21T00:20:00Z", 1, 500),
            ("2014-10-21T00:40:00Z", 1, 400),
            ("2014-10-21T01:00:00Z", 1, 400),
        ]
        self.assertEqual(totals, expected)
        by_category = [(w[1][11:16], w[2][11:16], w[4]) for w in self.windows(path, ["5m"], ["site_category"])]
        self.assertEqual(
            by_category,
            [("00:00", "00:05", "x"), ("00:20", "00:25", "x"), ("00:40", "00:45", "y"), ("01:00", "01:05", "x")],
        )

    def test_modelled_columns_follow_the_digest_of_the_id(self):
        # MD5("a") = 0cc175b9 ...: 214,005,177 % 10,000 = 5,177, and
        # MD5("h") = 2510c390 ...: 621,855,632 % 10,000 = 5,632: neither converts at 5,000.
        # MD5("c") = 4a8a08f0 9d37b737 ...: 1,250,560,240 % 10,000 = 240; 2,637,674,295 % 1,000 = 295: converts.
        rows = [row(id=name, click="1", device_type="1", hour=hour) for name, hour in (("a", "14102100"), ("h", "14102101"))]
        rows += [row(id="c", click="1", device_type="1", hour="14102102"), row(id="c", click="0", hour="14102103")]
        sums = [w[5:] for w in self.windows(self.write(rows), ["1m"], ["total"])]
        click = 400 + 120_000
        self.assertEqual(sums, [(1, 1, 0, click, 0), (1, 1, 0, click, 0), (1, 1, 1, click, 1_000_295), (1, 0, 0, 400, 0)])

    def test_rows_that_are_none_and_rows_that_are_rejected(self):
        path = self.write(
            [
                row(id="1"),
                row(id="2", click="2"),  # rejected, but it takes its place, one of six: the next lies at 20 min
                row(id="3"),
                ["too", "short"],  # no rows: they take none
                row(id="4", hour="14139900"),
                row() + ["too long"],
                row(id=""),
                row(id="5", C14="07"),
                row(id="6", C20="1.5"),
            ]
        )
        self.assertEqual([w[1][11:16] for w in self.windows(path, ["1m"], ["total"])], ["00:00", "00:20"])

    def test_ids_are_opaque_and_keys_of_integers_plain(self):
        path = self.write([row(id="1.4199688212321208e+19", device_type="-1"), row(id='q"u,ote', app_category="")])
        keys = {(w[3], w[4]) for w in self.windows(path, ["1m"])}
        self.assertIn(("device_type", "-1"), keys)
        self.assertIn(("app_category", ""), keys)
        self.assertIn(("total", ""), keys)

    def test_equal_to_a_plain_loop_over_random_rows(self):
        rng = random.Random(7)
        rows = [
            row(
                id=str(rng.randrange(10**20)),
                click=str(int(rng.random() < 0.4)),
                hour=f"141021{rng.randrange(4):02}",
                **{name: rng.choice("ABcé") for name in ("site_category", "app_category")},
                **{name: str(rng.randrange(3)) for name in ("device_type", "banner_pos")},
            )
            for _ in range(5_000)
        ]
        self.assertEqual(self.windows(self.write(rows)), plain_loop(rows))

    def test_another_csv_is_refused(self):
        path = self.write([], header=["a", "b"])
        with self.assertRaises(recount.Unusable):
            recount.load(path, self.pricing)

    def test_compare_accepts_its_own_windows_in_any_number_of_files(self):
        path = self.write([row(id=str(n), click=str(n % 2)) for n in range(400)])
        files = []
        for size in ("1m", "5m"):
            code, text = self.run_main("windows", path, "--size", size)
            self.assertEqual(code, 0)
            files.append(self.folder / f"{size}.csv")
            files[-1].write_text(text)
        code, said = self.run_main("compare", path, *files)
        self.assertEqual((code, said[:6]), (0, "equal:"), said)
        self.assertIn("of 400 events", said)

    def test_compare_names_what_differs(self):
        path = self.write([row(id=str(n), click="1") for n in range(60)])
        _, text = self.run_main("windows", path, "--size", "1m", "--dimension", "total")
        lines = text.splitlines()
        header, first, second, third, *rest = lines
        good = self.changed(path, lines)
        self.assertEqual(good[0], 0, good)
        cases = {
            "impressions is 2, the recount has 1": [header, first.replace(",1,1,", ",2,1,", 1), second, third, *rest],
            "is in none of the files": [header, first, third, *rest],
            "is there twice": [header, first, first, second, third, *rest],
            "not in the order": [header, second, first, third, *rest],
            "ctr is '1.000001'": [header, first.replace("1.000000", "1.000001"), second, third, *rest],
            "ctr is '1.0'": [header, first.replace("1.000000", "1.0"), second, third, *rest],
            "the recount has no such window": [header, first.replace("2014", "2015", 2), second, third, *rest],
        }
        for said, wrong in cases.items():
            code, out = self.changed(path, wrong)
            self.assertEqual(code, 1, said)
            self.assertIn(said, out)

    def changed(self, path, lines):
        file = self.folder / "windows.csv"
        file.write_text("\n".join(lines) + "\n")
        return self.run_main("compare", path, file, "--size", "1m", "--dimension", "total")


def plain_loop(rows):
    """The same windows, the obvious way."""
    names = recount.COLUMNS
    events = [dict(zip(names, fields)) for fields in rows]
    count, place, sums = {}, {}, {}
    for event in events:
        count[event["hour"]] = count.get(event["hour"], 0) + 1
    for event in events:
        hour = event["hour"]
        i = place[hour] = place.get(hour, -1) + 1
        start = recount.datetime.strptime("20" + hour + "+0000", "%Y%m%d%H%z").timestamp() * 1000
        ts = int(start) + i * 3_600_000 // count[hour]
        digest = hashlib.md5(event["id"].encode()).digest()
        click = int(event["click"])
        rate = 5_000 if event["device_type"] == "1" else 3_000
        conversion = int(click and int.from_bytes(digest[:4], "big") % 10_000 < rate)
        cost = 400 if event["banner_pos"] == "0" else 500
        if click:
            cost += 120_000 if event["device_type"] == "1" else 100_000
        revenue = conversion * (1_000_000 + int.from_bytes(digest[4:8], "big") % 1_000)
        for size, width in (("1m", 60_000), ("5m", 300_000)):
            for dimension in recount.DIMENSIONS:
                key = event.get(dimension, "")
                total = sums.setdefault((size, ts // width * width, dimension, key.encode()), [0] * 5)
                for at, value in enumerate((1, click, conversion, cost, revenue)):
                    total[at] += value
    width = recount.SIZES
    return [
        (size, recount.instant(start), recount.instant(start + width[size]), dimension, key.decode(), *total)
        for (size, start, dimension, key), total in sorted(sums.items())
    ]


if __name__ == "__main__":
    unittest.main()
