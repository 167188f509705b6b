"""Messages that a session refuses, each with the code of the error."""

import json
from typing import Final

from kfusion.landmarks import NEUTRAL

DEEP: Final = "deep"  # stands for 3000 brackets, so that a failure can be read


def identity(name: str, points: list[list[float]]) -> str:
    return json.dumps({"type": "identity", "id": name, "points": points})


COLLINEAR: Final = [[4.0 * k, 1.0 * k] for k in range(68)]
REFUSED: Final[list[tuple[str | bytes, str]]] = [  # where sound is accepted
    ("{", "bad_message"),
    ("\ud800", "bad_message"),
    (DEEP, "bad_message"),
    ("[1]", "bad_message"),
    ('{"type":"what"}', "bad_message"),
    ('{"type":"start"}', "bad_message"),
    ('{"type":"start","resume":{"token":"t","next":0}}', "bad_message"),
    ('{"type":"offer","sdp":"v=0"}', "bad_message"),
    ('{"type":"silence","samples":-1}', "bad_message"),
    ('{"type":"silence","samples":1.5}', "bad_message"),
    ('{"type":"silence","samples":1e400}', "bad_message"),
    (f'{{"type":"silence","samples":{10**15}}}', "bad_message"),
    (f'{{"type":"silence","samples":{10**4000}}}', "bad_message"),
    (b"odd", "bad_audio"),
    ('{"type":"emotion","weights":{"joy":1}}', "bad_emotion"),
    ('{"type":"emotion","weights":{"happy":2}}', "bad_emotion"),
    ('{"type":"emotion","weights":{"sad":-0.1}}', "bad_emotion"),
    ('{"type":"emotion","weights":{"sad":0.7,"fear":0.7}}', "bad_emotion"),
    ('{"type":"emotion","weights":{"sad":NaN}}', "bad_message"),
    ('{"type":"emotion","weights":{},"ramp":1e9}', "bad_message"),
    ('{"type":"identity","id":"unknown"}', "bad_identity"),
    ('{"type":"identity","id":""}', "bad_message"),
    ('{"type":"identity","id":"a","image":"no base64"}', "bad_message"),
    ('{"type":"identity","id":"a","image":""}', "bad_message"),
    ('{"type":"identity","id":"neutral","image":"aaaa"}', "bad_identity"),
    (json.dumps({"type": "identity", "id": "a", "image": "A" * 940_000}), "too_big"),
    (json.dumps({"type": "mark", "id": "é" * 200}), "bad_message"),
    (identity("neutral", NEUTRAL.tolist()), "bad_identity"),
    (identity("z", COLLINEAR), "bad_identity"),
    (identity("z", (NEUTRAL / 50).tolist()), "bad_identity"),
    (identity("z", [[1e300, -1e300]] * 68), "bad_identity"),
    (identity("z", [[0.0, 0.0]] * 67), "bad_message"),
]
REFUSED_STARTS: Final[list[tuple[str, str]]] = [
    ('{"type":"start","hop":4}', "bad_message"),
    ('{"type":"start","hop":30,"lookahead":1}', "bad_message"),
    ('{"type":"start","audio":{"rate":7999}}', "bad_message"),
    ('{"type":"start","audio":{"channels":6}}', "bad_message"),
    ('{"type":"start","encoding":"xml"}', "bad_message"),
    ('{"type":"start","outputs":[]}', "bad_message"),
    ('{"type":"start","outputs":["tongue"]}', "bad_message"),
    ('{"type":"start","media":"webrtc"}', "bad_message"),
    ('{"type":"start","life":1.5}', "bad_message"),
    ('{"type":"start","emotion":{"joy":1}}', "bad_emotion"),
    ('{"type":"start","identity":"unknown"}', "bad_identity"),
    (json.dumps({"type": "start", "identity": {"points": COLLINEAR}}), "bad_identity"),
    ('{"type":"start","resume":{"token":"t","next":-1}}', "bad_message"),
    ('{"type":"start","resume":{"token":"t"}}', "bad_message"),
]
