"""Frames: packing, unpacking, cutting a stream of bytes; the composed frames of the specification byte for byte."""

import hashlib

import pytest

from src.models.errors import WireError
from src.venues.futu import futu_pb2 as pb
from src.venues.futu import wire
from src.venues.futu.codec import HEAD_BYTES, Frame, FrameBoundaryLostError, Splitter, pack, unpack

INIT_REQUEST = bytes.fromhex(
    "4654 e9030000 00 00 01000000 26000000 4d698c15ec3857ebffeefeee5b1047040700c6dd 0000000000000000"
    "0a2408ac0212 0850794e6f726d616c 1801 20ffffffffffffffffff01 2800 3206507974686f6e"
)
INIT_RESPONSE = bytes.fromhex(
    "4654 e9030000 00 00 01000000 23000000 5ce25b61fe608caf5c6eb2ae1d00021377b0b675 0000000000000000"
    "080012 00 221d 08f307 10c1843d 1807 2210 30313233343536373839414243444546 280a"
)
SUBSCRIBE = bytes.fromhex(
    "4654 b90b0000 00 00 04000000 15000000 bd51735fb5a6ae1088b5c409c082e8dde31e9c8b 0000000000000000"
    "0a130a0908011205303037303010021801 20013001"
)
PUSH = bytes.fromhex(
    "4654 c50b0000 00 00 00000000 6e000000 cba74a75959c4478 5a10bfd3c2e4e18ca9a9187b 0000000000000000"
    "080012002268 0a090801120530303730 30 120f0966666666 66e6794010d8c304183d 1a0f093333333333e3794010b8d903183f"
    "2217323032362d30322d30342031303a30303a30302e313233 3217323032362d30322d30342031303a30303a30302e313235"
    "420754454e43454e54"
)
SUCCESS_SHA1 = "42626a8e47a860b1aae60a81dc071a4bb920fad9"


class TestExampleFrames:
    def test_init_connect_is_what_the_official_client_sends(self):
        assert pack(wire.init_connect(1)) == INIT_REQUEST

    def test_the_answer_to_init_connect(self):
        answer = wire.read(pb.InitConnect.Response, unpack(INIT_RESPONSE)).s2c
        assert (answer.serverVer, answer.loginUserID, answer.connID) == (1011, 1_000_001, 7)
        assert (answer.connAESKey, answer.keepAliveInterval) == ("0123456789ABCDEF", 10)

    def test_subscribing(self):
        assert pack(wire.subscribe(4, ["HK.00700"])) == SUBSCRIBE

    def test_success_and_refusal(self):
        body = bytes.fromhex("080012002200")
        assert hashlib.sha1(body).hexdigest() == SUCCESS_SHA1
        assert wire.verdict(Frame(wire.SUB, 4, body)).ok
        text = b"subscription quota exceeded"
        refusal = bytes.fromhex("08ffffffffffffffffff01121b") + text + bytes.fromhex("1800")
        assert wire.verdict(Frame(wire.SUB, 4, refusal)) == (-1, text.decode())

    def test_the_push(self):
        said = wire.read(pb.OrderBook.Response, unpack(PUSH)).s2c
        (bid,), (ask,) = said.orderBookBidList, said.orderBookAskList
        assert (bid.price, bid.volume, bid.orederCount) == (414.2, 60600, 63)
        assert (ask.price, ask.volume, ask.orederCount) == (414.4, 74200, 61)
        assert (wire.symbol_of(said.security), said.name) == ("HK.00700", "TENCENT")

    def test_keep_alive(self):
        assert wire.keep_alive(1, 1_770_170_400).body == bytes.fromhex("0a0608a0d08acc06")

    def test_an_answer_without_a_verdict_is_a_failure(self):
        with pytest.raises(WireError, match="malformed_body"):
            wire.verdict(Frame(wire.SUB, 1, b""))


class TestUnpack:
    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda raw: raw[:10], "torn_frame"),
            (lambda raw: raw[:-1], "torn_frame"),
            (lambda raw: raw + b"x", "torn_frame"),
            (lambda raw: b"TF" + raw[2:], "bad_magic"),
            (lambda raw: raw[:7] + b"\x09" + raw[8:], "bad_version"),
            (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "bad_sha1"),
            (lambda raw: raw[:20] + b"\x00" + raw[21:], "bad_sha1"),
        ],
    )
    def test_what_is_wrong_has_a_name(self, spoil, reason):
        with pytest.raises(WireError) as caught:
            unpack(spoil(PUSH))
        assert caught.value.reason == reason

    def test_an_empty_body_is_a_frame(self):
        assert unpack(pack(Frame(1, 2, b""))) == Frame(1, 2, b"")


class TestSplitter:
    def test_one_byte_at_a_time(self):
        splitter, found = Splitter(), []
        for byte in INIT_RESPONSE + PUSH + SUBSCRIBE:
            splitter.feed(bytes([byte]))
            while (frame := splitter.take()) is not None:
                found.append(frame)
        assert found == [INIT_RESPONSE, PUSH, SUBSCRIBE]
        assert not splitter.torn

    def test_many_at_once_and_the_rest_is_kept(self):
        splitter = Splitter()
        splitter.feed(PUSH * 50 + PUSH[:60])
        assert [splitter.take() for _ in range(51)] == [PUSH] * 50 + [None]
        assert splitter.torn
        splitter.feed(PUSH[60:])
        assert splitter.take() == PUSH

    def test_a_new_one_knows_nothing_of_a_torn_frame(self):
        torn = Splitter()
        torn.feed(PUSH[:70])
        fresh = Splitter()
        fresh.feed(INIT_RESPONSE)
        assert fresh.take() == INIT_RESPONSE

    @pytest.mark.parametrize("garbage", [b"X", b"FX", b"\x00" * 44, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
    def test_a_lost_boundary_is_noticed_at_once_and_what_came_before_is_kept(self, garbage):
        splitter = Splitter()
        with pytest.raises(FrameBoundaryLostError, match="expected FT"):
            splitter.feed(PUSH + garbage)
        assert splitter.take() == PUSH
        assert splitter.take() is None

    def test_a_huge_length_is_refused_before_anything_is_kept_for_it(self):
        splitter = Splitter(largest_body_bytes=1000)
        head = PUSH[:12] + (1001).to_bytes(4, "little") + PUSH[16:HEAD_BYTES]
        with pytest.raises(FrameBoundaryLostError, match="announces 1001 bytes"):
            splitter.feed(head)
