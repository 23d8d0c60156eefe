"""Messages of an MQTT broker, into an inbox, acknowledged when the inbox says so.

The one idea: the session at the broker outlives the connection (MQTT 5, a fixed client id, no clean start), every
subscription is QoS 1, and acknowledgements are ours: what was not acknowledged comes again. The broker sends at
most `RECEIVE_MAXIMUM` messages beyond that, so an inbox that waits is all the back pressure there is.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from cluster.home import Home
from jobs.following.access import tls, user_and_password
from jobs.following.sparkplug import Nodes, rebirth_command
from jobs.following.spool import Record
from models.live import LiveStream

RECEIVE_MAXIMUM = 4_000
SESSION_S = 7 * 86_400
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 15.0
Take = Callable[[list[Record], Callable[[], None] | None], None]
Note = Callable[[str], None]


async def follow_mqtt(
    home: Home, plant: str, live: LiveStream, *, take: Take, note: Note, stop: asyncio.Event, nodes: Nodes | None = None
) -> None:
    """Until ``stop``; whatever happens to the broker meanwhile is told once and waited for.

    ``take`` gets records, and what acknowledges their message (None: QoS 0). With ``nodes``: Sparkplug B.
    """
    user, password = user_and_password(home, plant, live)
    context, wait, is_told = tls(live), FIRST_WAIT_S, False
    while not stop.is_set():
        link = _Link(live, take, nodes)
        client = aiomqtt.Client(
            *live.address, identifier=live.client_id or f"millwright-{plant}-{live.name}", username=user,
            password=password, protocol=aiomqtt.ProtocolVersion.V5, clean_start=False, properties=_session(),
            keepalive=15, timeout=10, tls_context=context, queue_type=link.queue(),
        )  # fmt: skip
        link.client = client
        client._client.manual_ack_set(True)  # aiomqtt has no way of its own to say so
        try:
            async with client:
                granted = await client.subscribe([(topic, 1) for topic in live.topics])
                if refused := [str(code) for code in granted if getattr(code, "is_failure", False)]:
                    raise aiomqtt.MqttError(f"subscription refused: {', '.join(refused)}")
                if is_told:
                    note(f"{plant}: {live.name}: the broker is back")
                wait, is_told = FIRST_WAIT_S, False
                await _until(stop, client, link)
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            if not is_told:
                host, port = live.address
                note(f"{plant}: {live.name}: the broker at {host}:{port} does not answer ({error}); trying again")
            is_told = True
        finally:
            link.client = None
            if nodes is not None:
                nodes.forget()
        if not stop.is_set():
            await _sleep(stop, wait * random.uniform(0.7, 1.3))
            wait = min(LONGEST_WAIT_S, wait * 2)


class _Link:
    """One connection. A message that came over an earlier one is not acknowledged over this one."""

    def __init__(self, live: LiveStream, take: Take, nodes: Nodes | None) -> None:
        self.live, self.take, self.nodes = live, take, nodes
        self.client: aiomqtt.Client | None = None

    def queue(self) -> type[asyncio.Queue[aiomqtt.Message]]:
        """aiomqtt's queue, which hands every message on as it comes: no task a message."""
        arrived = self.arrived

        class Direct(asyncio.Queue[aiomqtt.Message]):
            def put_nowait(self, item: aiomqtt.Message) -> None:
                arrived(item)

        return Direct

    def arrived(self, message: aiomqtt.Message) -> None:
        now_us = time.time_ns() // 1000
        body = message.payload if isinstance(message.payload, bytes) else str(message.payload).encode()
        topic = str(message.topic)
        if self.nodes is not None:
            records = self.nodes.take(topic, body[: self.live.max_message_bytes + 1], now_us)
        elif message.retain and self.live.time is None:
            records = []  # an old value without a time of its own
        else:
            records = [Record(self.live.name, topic, body[: self.live.max_message_bytes + 1], now_us)]
        client, mid, qos = self.client, message.mid, message.qos

        def acknowledge() -> None:
            if self.client is client and client is not None:
                client._client.ack(mid, qos)

        self.take(records, acknowledge if qos else None)


async def _until(stop: asyncio.Event, client: aiomqtt.Client, link: _Link) -> None:
    """Until the connection or the work ends; asks for births meanwhile."""
    lost = asyncio.ensure_future(_lost(client))
    try:
        while not stop.is_set() and not lost.done():
            await asyncio.wait({lost}, timeout=0.2)
            nodes = link.nodes
            while nodes is not None and nodes.asked and not lost.done():
                await client.publish(nodes.asked.pop(0), rebirth_command(time.time_ns() // 1_000_000), qos=0)
        if lost.done():
            await lost
    finally:
        lost.cancel()


async def _lost(client: aiomqtt.Client) -> None:
    async for _ in client.messages:  # nothing ever lies in the queue: it ends with the connection
        pass


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


def _session() -> Any:
    found: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    found.SessionExpiryInterval = SESSION_S
    found.ReceiveMaximum = RECEIVE_MAXIMUM
    return found
