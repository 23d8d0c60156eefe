"""Publishes what so many machines measure, once a second each, on a schedule that does not drift.

The one idea: every message has its own due time, spread over the second; the stamp in it is when it was handed over.
Run as ``python streams_publisher.py PORT MACHINES SENSORS SECONDS``; prints how many messages, how late at most.
"""

from __future__ import annotations

import json
import sys
import time

import paho.mqtt.client as mqtt


def main(port: int, machines: int, sensors: int, seconds: int) -> None:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="bench", clean_session=False)
    client.max_queued_messages_set(0)
    client.max_inflight_messages_set(2000)
    client.connect("127.0.0.1", port)
    client.loop_start()
    start, late, last = time.monotonic() + 1.0, 0.0, None
    for number in range(machines * seconds):
        due = start + number / machines
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        late = max(late, -wait)
        machine = number % machines
        body = {f"s{k:02d}": round(50 + 0.01 * ((number * (k + 7)) % 997), 3) for k in range(sensors)}
        body["ts"] = time.time_ns() // 1000
        last = client.publish(f"line/M{machine:03d}/data", json.dumps(body), qos=1)
    if last is not None:
        last.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()
    print(json.dumps({"messages": machines * seconds, "late_s": round(late, 3)}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]))
