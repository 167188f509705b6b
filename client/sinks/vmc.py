"""The VMC protocol (https://protocol.vmc.info): VRM's expressions as OSC, a bundle a frame.

    /VMC/Ext/Blend/Val "A" 0.5      one for each expression
    /VMC/Ext/Blend/Apply
    /VMC/Ext/OK 1
    /VMC/Ext/T 12.3                 seconds of the sender's own clock

Bones are not sent: a bone's message has its position too, which only the receiver's model knows.
"""

from typing import Final

from client.sinks.udp import UdpSink
from client.stream.events import Frame
from kfusion import wire
from kfusion.coefficients.vrm import VRM, VRM0
from kfusion.errors import MissingExtra

VRM1_NAMES: Final[tuple[tuple[int, str], ...]] = tuple(enumerate(VRM))
VRM0_NAMES: Final = tuple((k, VRM0[name]) for k, name in VRM1_NAMES if name in VRM0)
"""Where each expression is in a frame's ``vrm``, and its name. Models of VRM 0.x have none for
``surprised``."""


class VmcSink(UdpSink):
    """Sends expressions by the names of VRM 0.x, which every receiver knows, or of VRM 1.0."""

    needs: tuple[wire.Output, ...] = ("vrm",)

    def __init__(self, url: str, host: str, port: int, *, vrm1: bool = False) -> None:
        try:
            from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
            from pythonosc.osc_message_builder import OscMessageBuilder
        except ImportError:
            raise MissingExtra(
                "the python-osc package is not installed; pip install 'kfusion[client]'"
            ) from None
        self._bundle = lambda: OscBundleBuilder(IMMEDIATELY)
        self._message = OscMessageBuilder
        self.names = VRM1_NAMES if vrm1 else VRM0_NAMES
        super().__init__(url, host, port)

    def packet(self, frame: Frame) -> bytes:
        assert frame.vrm is not None, "the stream was not asked for vrm"
        bundle = self._bundle()

        def add(address: str, *values: str | float) -> None:
            message = self._message(f"/VMC/Ext/{address}")
            for value in values:
                message.add_arg(value)
            bundle.add_content(message.build())

        for k, name in self.names:
            add("Blend/Val", name, float(frame.vrm[k]))
        add("Blend/Apply")
        add("OK", 1)
        add("T", frame.t)
        return bundle.build().dgram
