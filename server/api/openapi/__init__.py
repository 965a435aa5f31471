"""`/openapi.json`: `document` puts it together, from our request models, the `answers`, the `rules`
between fields, and the served `model`.
"""
