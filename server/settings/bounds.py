"""The most that any operator may allow: the API's schema and the settings both know it."""

MAX_N = 128  # samples of one prompt
MAX_STOPS = 64  # stop strings of one request
