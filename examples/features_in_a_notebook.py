"""Features of customers as of a past moment. The marks `# %%` make cells in Jupyter and VS Code.

Make the folder that it reads with `stream-scorer init shop`.
"""

# %% Settings declare the features; the space is their columns.
import stream_scorer as ss

settings = ss.Settings.load("shop/stream_scorer.toml")
space = settings.feature_space()
print(f"{len(settings.features)} features make {space.width:,} columns")

# %% Events as an Arrow table: `events.to_pandas()` or Polars go on from here.
events = ss.read_events("shop/events", settings)
print(f"{events.num_rows:,} events, columns {', '.join(events.column_names)}")

# %% What was known of every customer at one moment: the events strictly before it.
matrix, ids = ss.features_at(events, space, "2026-09-07T00:00:00Z")
print(f"{matrix.shape[0]} customers, {matrix.nnz / matrix.shape[0]:.1f} entries each")

# %% One customer in words, the largest values first.
names = space.names()
row = matrix[0].tocoo()
print(ids[0])
for column, value in sorted(zip(row.col, row.data, strict=True), key=lambda e: -e[1])[:5]:
    print(f"  {names[column]} = {value:.3f}")

# %% The same customer at two moments: any (customer, moment) pairs make rows.
before_and_after = [(ids[0], "2026-07-01T00:00:00Z"), (ids[0], "2026-09-07T00:00:00Z")]
history, _ = ss.features_at(events, space, before_and_after)
total = space.column("money@90d")
print(f"money, halved every 90 days: {history[0, total]:.2f}, later {history[1, total]:.2f}")
