"""pandera on pandas or polars: the frame is in memory before the clock starts."""

import sys

import common

R = common.RULES
BACKEND = sys.argv[2]
child, parent = R["reference"]
day, days = R["fresh"]

if BACKEND == "pandas":
    import pandas as pd
    import pandera.pandas as pa
    from pandera.errors import SchemaErrors

    frame = pd.read_parquet(common.FOLDER / "lineitem.parquet")
    known = set(pd.read_parquet(common.FOLDER / "suppliers.parquet")[parent])
    regex = lambda pattern: pa.Check.str_matches(pattern)
    composite = pa.Check(lambda df: ~df.duplicated(R["composite"]), name="composite")
    unique = pa.Check(lambda s: ~s.duplicated(), name="unique")
    fresh = pa.Check(lambda df: (pd.Timestamp.now() - pd.to_datetime(df[day]).max()).days < days, name="fresh")
    rows = pa.Check(lambda df: len(df) > R["rows"], name="rows")
    foreign = pa.Check(lambda s: s.isin(known), name="reference")
else:
    import datetime

    import pandera.polars as pa
    import polars as pl
    from pandera.errors import SchemaErrors

    frame = pl.read_parquet(common.FOLDER / "lineitem.parquet")
    known = pl.read_parquet(common.FOLDER / "suppliers.parquet")[parent]
    regex = lambda pattern: pa.Check.str_matches(pattern)
    composite = pa.Check(lambda d: d.lazyframe.select(pl.struct(R["composite"]).is_first_distinct()), name="composite")
    unique = pa.Check(lambda d: d.lazyframe.select(pl.col(d.key).is_first_distinct()), name="unique")
    limit = datetime.date.today() - datetime.timedelta(days=days)
    fresh = pa.Check(lambda d: d.lazyframe.select(pl.col(day).max() > limit), name="fresh")
    rows = pa.Check(lambda d: d.lazyframe.select(pl.len() > R["rows"]), name="rows")
    foreign = pa.Check(lambda d: d.lazyframe.select(pl.col(d.key).is_in(known.implode())), name="reference")

checks = {name: [] for name in frame.columns}
for name, (low, high) in R["ranges"].items():
    checks[name].append(pa.Check.in_range(low, high))
for name, values in R["sets"].items():
    checks[name].append(pa.Check.isin(values))
for name, pattern in R["patterns"].items():
    checks[name].append(regex(pattern))
for name in R["unique"]:
    checks[name].append(unique)
checks[child].append(foreign)
columns = {name: pa.Column(checks=found, nullable=name not in R["not_null"]) for name, found in checks.items()}
schema = pa.DataFrameSchema(columns, checks=[composite, fresh, rows])
COUNT = sum(map(len, checks.values())) + len(schema.checks) + len(R["not_null"])


def check():
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
        return COUNT, [f"{c} {k}" for c, k in zip(list(cases["column"]), list(cases["check"]), strict=True)]
    return COUNT, []


common.tell(check)
