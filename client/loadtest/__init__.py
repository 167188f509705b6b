"""Many live streams against one server, and what they measured of it.

::

    command  the options, and what is said at the end
    plan     who speaks what and when: pure
    log      what each stream sent and got, and when
    streams  one stream: its socket, what is said over it and heard
    wheel    opens streams, and one timer for all of them
    workers  the processes, and the server's own figures beside them
    usage    CPU and memory of the server, as it tells them itself or /proc does
    report   what came and when -> figures: pure
    search   the most streams that hold: pure
    charts   figures -> PNG
"""
