"""The stages a track passes, from a row of a catalog to a committed report.

Each stage is an ordinary function (no Prefect needed) over the values in `tasks.contracts`;
`tasks.stages` makes retryable Prefect tasks of them.
"""
