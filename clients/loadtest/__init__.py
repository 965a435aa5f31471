"""The load tester: how fast any OpenAI-compatible server answers, and until which load.

    workload/   prompts, trace, arrivals     what is sent, and when it is meant to be sent
                sweep                        the next load, until the server has no more to give
    driver/     drive                        closed and open loop: when it is sent
                wire, reading, exchange      one request over HTTP: bytes out, events in
                record                       what came of it
    results/    stats, result                from records to numbers, and the file of them
                compare, show, report        what people look at
                chart, svg, figures          curves, and two ways to draw them
    run, progress, cli                       all of it, one load after another

Every time is read from one clock that is handed in, so that the tests own it.
"""
