"""Many live streams against one server, and the latencies that they measure.

::

    command         the options, the search for the most streams, the output
    load            the load: which clip each stream sends, starting when; pure
    streams         one stream: its socket, what it sends and receives
    sender          opens streams; one timer sends the chunks of all
    workers         the processes of a run, and the server's usage beside them
    usage           CPU and memory of the server, from its /metrics
    trace           what each stream sent and received, and when
    report          traces -> figures; pure
    charts          figures -> PNG
    bench, soak     the programs client.bench and client.soak
    server_process  a server process for these two
"""
