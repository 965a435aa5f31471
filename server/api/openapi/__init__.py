"""`/openapi.json`: `document` puts it together, from our request models, the
`answer_schemas`, the `rules` between fields, and the `served_model`.
"""
