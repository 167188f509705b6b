"""The stream protocol, version 1: JSON messages and binary frames.

:mod:`~kfusion.wire.messages` has the text messages of both directions, :mod:`~kfusion.wire.frames`
the binary messages of the server. Binary messages of the client are raw PCM.
"""

from kfusion.wire.frames import *  # noqa: F403
from kfusion.wire.messages import *  # noqa: F403
