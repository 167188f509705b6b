"""The microphone with a fake device; PortAudio itself is not needed."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import Frame, connect
from client.audio.microphone import Block, BlockQueue, CaptureClock, Microphone
from kfusion.errors import MicrophoneError
from tests.client.fake_sounddevice import FakeSounddevice
from tests.client.memory_server import memory_transport, sent_silences

BLOCK = b"\x01\x00" * 960


# The queue between the threads


@given(st.lists(st.booleans(), max_size=80), st.integers(1, 5))
def test_the_queue_gives_or_counts_every_sample(actions: list[bool], max_blocks: int) -> None:
    queue, put, taken = BlockQueue(max_blocks), 0, 0

    def take() -> bool:
        nonlocal taken
        block = queue.take()
        if block is None:
            return False
        if block.pcm:
            assert np.frombuffer(block.pcm, "<i2")[0] == taken
        taken += block.lost or len(block.pcm) // 2
        return True

    for puts in actions:
        if puts:
            queue.put(np.arange(put, put + 10, dtype="<i2").tobytes(), 0.0)
            put += 10
            assert len(queue.blocks) <= max_blocks + 1
        else:
            take()
    while take():
        pass
    assert taken + queue.pending_loss == put


def test_the_times_of_a_device_give_the_samples_it_dropped() -> None:
    clock = CaptureClock(48_000)
    assert clock.missing_before(1.0, 960, overflowed=False) == 0
    assert clock.missing_before(1.021, 960, overflowed=False) == 0  # jitter
    assert clock.missing_before(1.541, 960, overflowed=True) == 24_000
    assert clock.missing_before(1.561, 960, overflowed=True) == 0
    assert clock.missing_before(0.0, 960, overflowed=True) == 0  # no times from this device
    assert clock.missing_before(9.0, 960, overflowed=True) == 0


# The microphone


@pytest.mark.asyncio
async def test_a_device_that_does_not_open_is_named(sounddevice: FakeSounddevice) -> None:
    sounddevice.rates.clear()
    with pytest.raises(MicrophoneError, match=r"Built-in Audio: cannot be opened.*sample rate"):
        async with Microphone():
            pass


@pytest.mark.asyncio
async def test_blocks_that_do_not_fit_become_silence(
    sounddevice: FakeSounddevice,
) -> None:
    transport = memory_transport()
    async with (
        Microphone("usb") as mic,
        connect("memory", transport=transport, rate=mic.rate, fill_silence=False) as face,
    ):
        assert sounddevice.streams[0].options["samplerate"] == mic.rate == 44_100
        for _ in range(130):  # 2.6 s while the loop stands still; 2 s fit
            sounddevice.streams[0].record(BLOCK)
        pumping = asyncio.create_task(mic.pump(face))
        await asyncio.sleep(0)
        sounddevice.streams[0].record(BLOCK)
        mic.stop()
        await pumping
        await face.end()
        events = [e async for e in face.events()]
    assert mic.queue.lost == 30 * 960
    assert sent_silences(transport) == [30 * 960]
    assert b"".join(m for m in transport.sent if isinstance(m, bytes)) == BLOCK * 101
    assert sum(isinstance(e, Frame) for e in events) == -(-131 * 960 * 30 // 44_100)
    assert mic.level == pytest.approx(1 / 32768) and not sounddevice.streams[0].running


@pytest.mark.asyncio
async def test_a_device_that_is_unplugged_ends_the_blocks(sounddevice: FakeSounddevice) -> None:
    async with Microphone() as mic:
        sounddevice.streams[0].record(BLOCK)
        sounddevice.streams[0].options["finished_callback"]()
        blocks = [b async for b in mic.blocks()]
    assert [type(b) for b in blocks] == [Block]


def test_the_callback_may_come_after_the_loop_is_closed(sounddevice: FakeSounddevice) -> None:
    async def open_only() -> None:
        await Microphone().__aenter__()

    asyncio.run(open_only())
    sounddevice.streams[0].record(BLOCK)  # PortAudio's thread does not know yet
