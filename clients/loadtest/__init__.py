"""The load tester: how fast any OpenAI-compatible server answers, and until which load.

    prompts, trace, arrivals   what is sent, and when it is meant to be sent
    drive                      closed and open loop: when it is sent
    wire, reading, exchange    one request over HTTP: bytes out, events in, a Record of both
    record, stats              from records to numbers
    sweep, run                 from one load to many, until the server has no more to give
    result, compare, chart, svg, report, figures, progress     what people look at

Every time is read from one clock that is handed in, so that the tests own it.
"""
