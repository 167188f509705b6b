"""Real speech, at the pace of speech, through a real server process."""

from math import ceil

import numpy as np
import pytest
import soxr

from kfusion import wire
from tests.conftest import RunningServer, folder_of, usual_p95
from tests.system.raw_client import client, speak
from training.corpus.clips import Clip, read_folder


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return read_folder(folder_of("grid_s1"), "validation")


@pytest.mark.asyncio
@pytest.mark.data
@pytest.mark.live
@pytest.mark.parametrize("rate", [16_000, 48_000])
async def test_ten_clips_at_live_pace_are_whole_and_on_time(
    server: RunningServer, clips: list[Clip], rate: int
) -> None:
    late: list[float] = []
    for clip in clips[:10]:
        sound = clip.audio
        if rate != 16_000:
            sound = soxr.resample(sound, 16_000, rate).astype(np.float32)
        async with client(server, audio={"rate": rate}) as raw:
            ready = raw.received[0]
            assert isinstance(ready, wire.Ready)
            late += [seconds * 1000 - ready.latency_ms for seconds in await speak(raw, sound, rate)]
            assert raw.frames == list(range(ceil(30 * len(sound) / rate)))
            assert isinstance(raw.received[-1], wire.End) and raw.received[-1].dropped == 0
    beyond = usual_p95(late)
    whole = np.percentile(late, [50, 95])
    print(
        f"\n{rate} Hz: ms beyond latency_ms: p50 {whole[0]:.1f} p95 {whole[1]:.1f}, "
        f"of a usual second {beyond:.1f}"
    )
    assert beyond <= 50
