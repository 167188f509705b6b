"""One stream: the protocol, its connection and :class:`client.Face`. Internal, except for what
:mod:`client`, :mod:`client.clock` and :mod:`client.memory` export.
"""
