"""Ollama's dialect: `schema` and `sampling_options` are what may be asked, `as_ours` makes it a
request for chat or completions, `events` turns their events into lines of JSON, `model_routes` tell
what is served. Nothing else speaks it but the envelope of errors
(`thirdeye.server.api.http.error_envelope`).
"""
