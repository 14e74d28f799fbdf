"""The rules of the exchange, one by one."""

from src.venues.hyperliquid.simulator.exchange import ZERO_HASH


def updates(bench, oid):
    return [(u.status, u.order.sz) for _, u in bench.exchange.outbox.updates if u.order.oid == oid]


def test_a_resting_order_stands_in_the_book(bench):
    order = bench.place(lots=250)
    assert bench.alice.orders == {order.oid: order}
    level = next(level for level in bench.book.levels()[0] if level.px == order.limit_px)
    assert level.lots >= 250
    assert bench.events(order.oid) == [("placed", None)]
    assert updates(bench, order.oid) == [("open", "2.5")]


def test_cancelling_takes_it_out_everywhere(bench):
    order = bench.place()
    assert bench.book.bids.prices == [order.limit_px]
    bench.exchange.cancel(order)
    assert bench.alice.orders == {}
    assert bench.book.bids.prices == []
    assert bench.events(order.oid) == [("placed", None), ("canceled", "canceled")]
    assert bench.alice.statuses[order.oid].status == "canceled"


def test_a_price_that_runs_over_an_order_fills_it_and_makes_a_trade(bench):
    order = bench.place(lots=300)
    bench.exchange.outbox.trades.clear()
    bench.exchange.move_price(bench.book, order.limit_px * 0.99)
    assert order.lots == 0
    assert bench.position() == 300
    assert bench.alice.orders == {}
    trade = bench.exchange.outbox.trades[-1]
    assert (trade.side, trade.sz, trade.px) == ("A", "3.0", bench.coin.px_text(order.limit_px))
    assert trade.users[0] == order.trader
    fill = bench.alice.fills[-1]
    assert (fill.tid, fill.oid, fill.crossed, fill.dir) == (trade.tid, order.oid, False, "Open Long")
    assert updates(bench, order.oid)[-1] == ("filled", "0.0")


def test_a_small_trade_fills_the_best_order_partly_and_keeps_the_oid(bench):
    order = bench.place(px=bench.book.background_bid, lots=300)
    bench.exchange.public_trade(bench.coin, is_buy=False, lots=100)
    assert (order.lots, order.orig_lots) == (200, 300)
    assert bench.events(order.oid) == [("placed", None), ("partiallyFilled", None)]
    assert order.shape().sz == "2.0"
    assert order.shape().origSz == "3.0"
    bench.exchange.public_trade(bench.coin, is_buy=False, lots=1_000)
    assert order.lots == 0
    assert bench.position() == 300


def test_first_come_first_served_at_one_price(bench):
    px = bench.book.background_ask
    first = bench.place(is_buy=False, px=px, lots=50)
    second = bench.place(is_buy=False, px=px, lots=50)
    bench.exchange.public_trade(bench.coin, is_buy=True, lots=20)
    assert (first.lots, second.lots) == (30, 50)


def test_traders_trade_with_each_other(bench):
    maker = bench.place(is_buy=False, px=bench.book.background_ask, lots=100)
    bench.take(is_buy=True, lots=100, trader=bench.bob.address)
    assert (bench.position(bench.alice), bench.position(bench.bob)) == (-100, 100)
    assert bench.alice.fills[-1].tid == bench.bob.fills[-1].tid
    assert bench.alice.fills[-1].crossed is False
    assert bench.bob.fills[-1].crossed is True
    assert bench.exchange.outbox.trades[-1].users == (bench.bob.address, maker.trader)


def test_a_trader_never_trades_with_himself(bench):
    maker = bench.place(is_buy=False, px=bench.book.background_ask, lots=100)
    bench.take(is_buy=True, lots=40)
    assert bench.events(maker.oid)[-1] == ("canceled", "selfTradeCanceled")
    assert bench.position() == 40


def test_a_market_order_is_placed_and_filled_at_once_and_never_listed(bench):
    order = bench.take(lots=70)
    assert bench.events(order.oid) == [("placed", None), ("filled", None)]
    assert bench.alice.orders == {}
    assert updates(bench, order.oid) == [("open", "0.7"), ("filled", "0.0")]


def test_a_modify_is_a_cancel_plus_a_new_order_with_the_same_client_id(bench):
    old = bench.place(cloid="0x" + "c" * 32)
    bench.exchange.outbox.updates.clear()
    fresh = bench.exchange.modify(old, old.limit_px - bench.coin.tick(old.limit_px), 55)
    assert fresh.oid > old.oid
    assert fresh.cloid == old.cloid
    assert list(bench.alice.orders) == [fresh.oid]
    order_of_updates = [(u.order.oid, u.status) for _, u in bench.exchange.outbox.updates]
    assert order_of_updates == [(fresh.oid, "open"), (old.oid, "canceled")]
    placed = next(e for e in bench.exchange.truth.events if e.oid == fresh.oid)
    cancelled = [e for e in bench.exchange.truth.events if e.oid == old.oid][-1]
    assert placed.detail == {"replaces": old.oid}
    assert cancelled.detail == {"replacedBy": fresh.oid}


class TestChildren:
    def place_parent(self, bench):
        parent = bench.order(lots=200)
        px = parent.limit_px
        profit = bench.trigger(
            is_buy=False, above=True, px=bench.coin.snap(px * 1.1), lots=200, order_type="Take Profit Market"
        )
        stop = bench.trigger(is_buy=False, above=False, px=bench.coin.snap(px * 0.9), lots=200)
        bench.exchange.place(parent, (profit, stop))
        return parent, profit, stop

    def test_children_are_listed_inside_the_resting_parent_only(self, bench):
        parent, profit, stop = self.place_parent(bench)
        assert list(bench.alice.orders) == [parent.oid]
        assert [child.oid for child in parent.shape().children] == [profit.oid, stop.oid]
        assert profit.row()["parentOid"] == parent.oid
        assert parent.row()["parentOid"] is None
        assert bench.book.triggers == {}

    def test_cancelling_the_parent_cancels_them_at_the_same_time(self, bench):
        parent, profit, stop = self.place_parent(bench)
        bench.exchange.now_ms += 1234
        bench.exchange.cancel(parent)
        entries = [bench.alice.statuses[o.oid] for o in (parent, profit, stop)]
        assert {e.status for e in entries} == {"canceled"}
        assert {e.statusTimestamp for e in entries} == {bench.exchange.now_ms}

    def test_filling_the_parent_makes_them_orders_of_their_own(self, bench):
        parent, profit, stop = self.place_parent(bench)
        bench.exchange.move_price(bench.book, parent.limit_px * 0.995)
        assert list(bench.alice.orders) == [profit.oid, stop.oid]
        assert profit.row()["parentOid"] is None
        assert bench.events(profit.oid) == [("placed", None), ("activated", None)]
        assert b'"children":[]' in bytes(profit.raw())

    def test_a_triggered_leg_cancels_its_sibling(self, bench):
        parent, profit, stop = self.place_parent(bench)
        bench.exchange.move_price(bench.book, parent.limit_px * 0.995)
        bench.exchange.move_price(bench.book, stop.trigger_px * 0.999)
        assert bench.events(stop.oid)[-2:] == [("triggered", None), ("filled", None)]
        assert bench.events(profit.oid)[-1] == ("canceled", "siblingFilledCanceled")
        assert bench.position() == 0
        assert bench.alice.orders == {}

    def test_cancelling_one_leg_leaves_the_other_alone(self, bench):
        parent, profit, stop = self.place_parent(bench)
        bench.exchange.move_price(bench.book, parent.limit_px * 0.995)
        bench.exchange.cancel(profit)
        assert list(bench.alice.orders) == [stop.oid]
        bench.exchange.move_price(bench.book, stop.trigger_px * 0.999)
        assert bench.position() == 0

    def test_a_change_of_a_child_renews_the_text_of_the_parent(self, bench):
        parent, profit, _ = self.place_parent(bench)
        before = bytes(parent.raw())
        profit.resize(150)
        assert bytes(parent.raw()) != before


class TestReduceOnly:
    def test_it_shrinks_with_the_position_and_keeps_its_original_size(self, bench):
        bench.take(lots=500)
        order = bench.place(is_buy=False, lots=500, reduce_only=True)
        bench.take(is_buy=False, lots=300)
        assert (order.lots, order.orig_lots) == (200, 500)
        assert bench.events(order.oid)[-1] == ("amended", None)

    def test_it_is_cancelled_with_its_size_left_when_the_position_is_gone(self, bench):
        bench.take(lots=500)
        order = bench.place(is_buy=False, lots=400, reduce_only=True)
        bench.take(is_buy=False, lots=500)
        assert bench.events(order.oid)[-1] == ("canceled", "reduceOnlyCanceled")
        assert order.lots == 400
        assert bench.alice.statuses[order.oid].order.sz == "4.0"
        assert ("0x" + "a1" * 20, "SOL", order.oid) in bench.exchange.outbox.system_cancels

    def test_it_is_cancelled_when_the_position_turns_round(self, bench):
        bench.take(lots=500)
        order = bench.place(is_buy=False, lots=400, reduce_only=True)
        bench.take(is_buy=False, lots=700)
        assert bench.position() == -200
        assert bench.events(order.oid)[-1] == ("canceled", "reduceOnlyCanceled")


class TestTriggers:
    def test_a_position_stop_has_size_zero_while_it_lives_and_closes_everything(self, bench):
        bench.take(lots=500)
        stop = bench.trigger(
            is_buy=False, above=False, px=bench.coin.snap(bench.book.mark * 0.98), lots=0, is_tpsl=True
        )
        bench.exchange.place(stop)
        shape = stop.shape()
        assert (shape.sz, shape.origSz, shape.isPositionTpsl, shape.tif) == ("0.0", "0.0", True, None)
        assert shape.triggerCondition.startswith("Price below ")
        bench.exchange.move_price(bench.book, stop.trigger_px * 0.999)
        assert bench.position() == 0
        assert bench.events(stop.oid) == [("placed", None), ("triggered", None), ("filled", None)]

    def test_it_waits_until_the_mark_is_there(self, bench):
        bench.take(lots=500)
        stop = bench.trigger(is_buy=False, above=False, px=bench.coin.snap(bench.book.mark * 0.98), lots=100)
        bench.exchange.place(stop)
        bench.exchange.move_price(bench.book, stop.trigger_px * 1.005)
        assert stop.oid in bench.alice.orders
        assert bench.position() == 500

    def test_a_limit_type_goes_into_the_book_when_it_does_not_cross(self, bench):
        bench.take(lots=500)
        trigger_px = bench.coin.snap(bench.book.mark * 1.02)
        order = bench.trigger(
            is_buy=False,
            above=True,
            px=trigger_px,
            lots=500,
            order_type="Take Profit Limit",
            limit_px=bench.coin.snap(trigger_px * 1.02),
        )
        bench.exchange.place(order)
        bench.exchange.move_price(bench.book, trigger_px * 1.001)
        assert order.resting
        assert order.shape().triggerCondition == "Triggered"
        assert bench.events(order.oid)[-1] == ("triggered", None)
        bench.exchange.move_price(bench.book, order.limit_px * 1.001)
        assert bench.position() == 0

    def test_a_trigger_without_position_is_cancelled(self, bench):
        stop = bench.trigger(is_buy=False, above=False, px=bench.coin.snap(bench.book.mark * 0.98), lots=100)
        bench.exchange.place(stop)
        bench.exchange.move_price(bench.book, stop.trigger_px * 0.99)
        assert bench.events(stop.oid)[-1] == ("canceled", "reduceOnlyCanceled")


def test_leverage_changes_are_written_down_only_for_open_positions(bench):
    bench.exchange.set_leverage(bench.alice, bench.coin, 5, isolated=False)
    assert not list(bench.exchange.truth.of("leverage"))
    bench.take(lots=100)
    bench.exchange.set_leverage(bench.alice, bench.coin, 3, isolated=True)
    event = next(bench.exchange.truth.of("leverage"))
    assert (event.position["leverageType"], event.position["leverageValue"]) == ("isolated", 3)


def test_fills_of_a_coin_form_a_chain(bench):
    for lots, is_buy in ((100, True), (30, False), (200, False), (500, True)):
        bench.take(lots=lots, is_buy=is_buy)
    after = 0.0
    for fill in bench.alice.fills:
        assert float(fill.startPosition) == after
        after = round(after + float(fill.sz) * (1 if fill.side == "B" else -1), 9)


def test_some_hashes_are_all_zeros_and_trade_ids_fit_fifty_bits(bench):
    for _ in range(200):
        bench.exchange.public_trade(bench.coin, is_buy=True, lots=10)
    trades = bench.exchange.outbox.trades
    assert {t.hash == ZERO_HASH for t in trades} == {True, False}
    assert all(0 < t.tid < 2**50 for t in trades)


def test_an_outbox_nobody_empties_stays_bounded(bench):
    for _ in range(12_000):
        bench.exchange.public_trade(bench.coin, is_buy=True, lots=1)
    assert len(bench.exchange.outbox.trades) == 10_000
