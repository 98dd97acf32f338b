#!/usr/bin/env python3
"""Recounts Clickmill's windows from an Avazu CSV with DuckDB, which shares no code with Clickmill.

    recount.py windows CSV [--size 1m|5m] [--dimension D] [--pricing FILE]
    recount.py compare CSV WINDOWS.csv... [--size 1m|5m] [--dimension D] [--pricing FILE]

`windows` prints what `clickmill windows --output csv` must print for that file, without the column `final`.
`compare` reads such files (together they must hold every window of the sizes and dimensions asked for) and exits
with 1, naming the first differences, unless all agree; with 2 when it cannot tell.

What is counted, and what it means, is said here once more on purpose, in SQL and from the documents alone
(the README, schemas/pricing.md):
- Rows that do not have 24 fields, or whose hour is none, are no rows. Row i (from 0) of the n rows of its hour, in
  file order, has ts = hour start + floor(i * 3,600,000 / n) ms.
- Of these, rows with an empty id, a click other than 0 and 1, or something else than an integer where one is due
  (leading zeros are none in JSON) are rejected and not counted.
- Windows are [k * size, (k + 1) * size) of ts. The modelled columns come from the pricing table and MD5(id).
"""

import argparse
import csv
import gzip
import json
import os
import sys
from datetime import datetime, timezone
from fractions import Fraction
from pathlib import Path

import duckdb

COLUMNS = (
    "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,device_id,"
    "device_ip,device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21"
).split(",")
INTEGERS = "C1,banner_pos,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21".split(",")
SIZES = {"1m": 60_000, "5m": 300_000}
# Each dimension with the SQL of its key; integers are keys in plain decimal.
DIMENSIONS = {
    "app_category": "app_category",
    "banner_pos": "CAST(CAST(banner_pos AS BIGINT) AS VARCHAR)",
    "device_type": "CAST(CAST(device_type AS BIGINT) AS VARCHAR)",
    "site_category": "site_category",
    "total": "''",
}
SUMS = ("impressions", "clicks", "conversions", "cost_micros", "revenue_micros")
IDENTITY = ("window_size", "window_start", "window_end", "dimension", "key")
RATIOS = ("ctr", "cpc", "cpa", "roas")
PRICING = Path(__file__).resolve().parents[2] / "schemas" / "pricing.json"
SHOWN_DIFFERENCES = 20


class Unusable(Exception):
    """An input from which nothing can be told."""


def rates(table, name):
    """SQL relation (key, value) of one of the pricing table's maps, and its default."""
    entries = dict(table[name])
    default = int(entries.pop("default"))
    rows = ", ".join(f"({int(key)}, {int(value)})" for key, value in entries.items())
    relation = f"(VALUES {rows}) AS t(k, v)" if rows else "(SELECT 0 AS k, 0 AS v WHERE false) AS t"
    return relation, default


def rate(table, name, column):
    """SQL of the value for the row's column, or of the default."""
    relation, default = rates(table, name)
    return f"coalesce((SELECT v FROM {relation} WHERE k = CAST({column} AS BIGINT)), {default})"


def load(path, pricing):
    """A database with the view `events`: ts, click, the dimensions' columns, the modelled columns."""
    check_header(path)
    table = json.loads(Path(pricing).read_text(encoding="utf-8"))
    low, high = int(table["revenue_micros_min"]), int(table["revenue_micros_max"])
    db = duckdb.connect()
    columns = "{" + ", ".join(f"'{name}': 'VARCHAR'" for name in COLUMNS) + "}"
    # One thread reads, so that row numbers are in file order. No text means NULL: an empty field is an empty string.
    db.execute(
        f"""CREATE TABLE parsed AS
            SELECT row_number() OVER () AS line, *, epoch_ms(try_strptime('20' || hour, '%Y%m%d%H')) AS hour_ms
            FROM read_csv($path, auto_detect = false, header = true, columns = {columns}, delim = ',', quote = '"',
                          escape = '"', parallel = false, ignore_errors = true, null_padding = false,
                          nullstr = '\u0001', max_line_size = 16777216)""",
        {"path": str(path)},
    )
    integers = " AND ".join(f"regexp_full_match({name}, '-?(0|[1-9][0-9]{{0,17}})')" for name in INTEGERS)
    db.execute(
        f"""CREATE TABLE valid AS
            SELECT * FROM (
                SELECT *, hour_ms + (row_number() OVER (PARTITION BY hour_ms ORDER BY line) - 1) * 3600000
                          // count(*) OVER (PARTITION BY hour_ms) AS ts
                FROM parsed WHERE regexp_full_match(hour, '[0-9]{{8}}') AND hour_ms IS NOT NULL)
            WHERE id <> '' AND click IN ('0', '1') AND {integers}"""
    )
    db.execute(
        f"""CREATE TABLE events AS
            SELECT ts, site_category, app_category, device_type, banner_pos, CAST(click AS BIGINT) AS click, conversion,
                   {rate(table, "impression_cost_micros", "banner_pos")}
                   + CASE click WHEN '1' THEN {rate(table, "click_cost_micros", "device_type")} ELSE 0 END AS cost,
                   conversion * ({low} + second % {high - low + 1}) AS revenue
            FROM (SELECT *, CASE WHEN click = '1'
                                  AND first % 10000 < {rate(table, "conversion_rate_bp", "device_type")}
                            THEN 1 ELSE 0 END AS conversion
                  FROM (SELECT *, CAST('0x' || md5(id)[1:8] AS BIGINT) AS first,
                               CAST('0x' || md5(id)[9:16] AS BIGINT) AS second FROM valid))"""
    )
    return db


def check_header(path):
    """The first line must name Avazu's columns: DuckDB would skip whatever it is."""
    opened = gzip.open(path, "rt") if str(path).endswith(".gz") else open(path, encoding="utf-8", newline="")
    with opened as file:
        header = next(csv.reader(file), [])
    if header != COLUMNS:
        raise Unusable(f"{path}: the first line does not name Avazu's 24 columns")


def windows(db, sizes, dimensions):
    """All windows, as tuples of IDENTITY and SUMS, in the order of the contract."""
    for size in sizes:
        parts = [
            f"""SELECT ts // {SIZES[size]} * {SIZES[size]} AS start, '{name}' AS dimension, {DIMENSIONS[name]} AS key,
                       count(*), sum(click), sum(conversion), sum(cost), sum(revenue)
                FROM events GROUP BY ALL"""
            for name in dimensions
        ]
        # Strings are compared bytewise, DuckDB's default collation.
        for start, *rest in db.sql(" UNION ALL ".join(parts) + " ORDER BY start, dimension, key").fetchall():
            dimension, key, *sums = rest
            yield (size, instant(start), instant(start + SIZES[size]), dimension, key, *map(int, sums))


def instant(epoch_ms):
    return datetime.fromtimestamp(epoch_ms // 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def ratios(sums):
    """ctr, cpc, cpa, roas as exact fractions; None where the divisor is 0."""
    impressions, clicks, conversions, cost, revenue = sums
    pairs = ((clicks, impressions), (cost, clicks * 10**6), (cost, conversions * 10**6), (revenue, cost))
    return [Fraction(upper, lower) if lower else None for upper, lower in pairs]


def print_windows(rows, file):
    out = csv.writer(file, lineterminator="\n")
    out.writerow(IDENTITY + SUMS + RATIOS)
    for row in rows:
        shown = ["" if ratio is None else f"{float(ratio):.6f}" for ratio in ratios(row[len(IDENTITY) :])]
        out.writerow([*row, *shown])


def read_windows(path):
    """Rows of a file as `clickmill windows --output csv` writes it: (place, identity, sums, ratios as text, final)."""
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        wanted = list(IDENTITY + SUMS + RATIOS)
        header = next(reader, [])
        if header not in (wanted, wanted + ["final"]):
            raise Unusable(f"{path}: the header must be {','.join(wanted + ['final'])}, but is {','.join(header)}")
        for row in reader:
            place = f"{path}:{reader.line_num}"
            if len(row) != len(header):
                raise Unusable(f"{place}: {len(row)} fields instead of {len(header)}")
            final = row[len(wanted)] if len(header) > len(wanted) else None
            yield place, tuple(row[:5]), row[5:10], row[10:14], final


def differences(expected, files):
    """Yields a line for each thing that differs between the recount and the files."""
    expected = {row[:5]: row[5:] for row in expected}
    seen = set()
    for path in files:
        previous = None
        for place, identity, sums, shown, final in read_windows(path):
            order = (identity[1], identity[3].encode(), identity[4].encode())
            if previous is not None and identity[0] == previous[0] and order <= previous[1]:
                yield f"{place}: not in the order start, dimension, key"
            previous = (identity[0], order)
            name = " ".join(identity)
            if identity in seen:
                yield f"{place}: {name}: is there twice"
            seen.add(identity)
            if identity not in expected:
                yield f"{place}: {name}: the recount has no such window"
                continue
            truth = expected[identity]
            for column, got, want in zip(SUMS, sums, truth):
                if got != str(want):
                    yield f"{place}: {name}: {column} is {got}, the recount has {want}"
            for column, got, want in zip(RATIOS, shown, ratios(truth)):
                if not same_ratio(got, want):
                    yield f"{place}: {name}: {column} is {got!r}, the recount has {want and float(want)}"
            if final not in (None, "true", "false"):
                yield f"{place}: {name}: final is {final!r}, neither true nor false"
    for identity in expected:
        if identity not in seen:
            yield f"{' '.join(identity)}: is in none of the files"


def same_ratio(text, exact):
    """Six decimals, rounded to nearest; a tie, or a double's last bit, may go either way."""
    if exact is None or text == "":
        return exact is None and text == ""
    whole, dot, decimals = text.partition(".")
    if not (whole.isdigit() and dot and len(decimals) == 6 and decimals.isdigit()):
        return False
    return abs(Fraction(text) - exact) <= Fraction(500_001, 10**12)


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("csv", type=Path, help="Avazu CSV, plain or .gz")
    shared.add_argument("--size", action="append", choices=SIZES, help="only this window size (default: both)")
    shared.add_argument("--dimension", action="append", choices=DIMENSIONS, help="only this dimension (default: all)")
    shared.add_argument("--pricing", type=Path, default=PRICING, help="pricing table (default: schemas/pricing.json)")
    verbs.add_parser("windows", parents=[shared])
    verbs.add_parser("compare", parents=[shared]).add_argument("files", type=Path, nargs="+", metavar="WINDOWS.csv")
    options = parser.parse_args(arguments)

    chosen = sorted(options.dimension or DIMENSIONS)
    rows = list(windows(load(options.csv, options.pricing), options.size or SIZES, chosen))
    if options.verb == "windows":
        print_windows(rows, sys.stdout)
        return 0
    found = list(differences(rows, options.files))
    for line in found[:SHOWN_DIFFERENCES]:
        print(line)
    if found:
        print(f"{len(found)} differences between {options.csv} and {', '.join(map(str, options.files))}")
        return 1
    events = sum(row[5] for row in rows if row[0] == rows[0][0] and row[3] == rows[0][3])
    print(f"equal: {len(rows)} windows of {events} events")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        os._exit(0)  # whoever read has seen enough
    except (Unusable, OSError, ValueError, KeyError, duckdb.Error) as problem:
        print(f"error: {type(problem).__name__}: {problem}", file=sys.stderr)
        sys.exit(2)
