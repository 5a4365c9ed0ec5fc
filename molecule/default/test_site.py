"""All of site.yml on bare hosts: the fleet does its work."""

import asyncio
import json

import nats
import pytest

testinfra_hosts = ["ssh://relay1", "ssh://relay2", "ssh://home1?sudo=true"]

ADDRESSES = {"anchor1": "10.77.0.11", "relay1": "10.77.0.21", "relay2": "10.77.0.22"}


@pytest.mark.parametrize(("publisher", "subscriber"), [("anchor1", "relay1"), ("relay1", "relay2"), ("relay2", "anchor1")])
def test_messages_cross_the_cluster(publisher, subscriber):
    async def send() -> bytes:
        receiving = await nats.connect(f"nats://{ADDRESSES[subscriber]}:4222", connect_timeout=5)
        sending = await nats.connect(f"nats://{ADDRESSES[publisher]}:4222", connect_timeout=5)
        inbox = await receiving.subscribe("molecule")
        await receiving.flush()
        # Interest spreads through the cluster a moment after it is declared.
        for _attempt in range(50):
            await sending.publish("molecule", b"hello")
            await sending.flush()
            try:
                message = await inbox.next_msg(timeout=0.2)
            except TimeoutError:
                continue
            await receiving.close()
            await sending.close()
            return message.data
        return b""

    assert asyncio.run(send()) == b"hello"


def test_a_stream_with_three_replicas_can_be_made():
    async def make() -> int:
        client = await nats.connect(f"nats://{ADDRESSES['relay1']}:4222", connect_timeout=5)
        stream = client.jetstream()
        await stream.add_stream(name="molecule", subjects=["kept.*"], num_replicas=3)
        acknowledged = await stream.publish("kept.one", b"hello")
        await stream.delete_stream("molecule")
        await client.close()
        return acknowledged.seq

    assert asyncio.run(make()) == 1


def test_the_node_is_ready_and_keeps_what_it_is_given(host):
    assert json.loads(host.check_output("curl -fsS http://127.0.0.1:9100/readyz"))["ready"] is True
    assert host.run("curl -fsS -X PUT --data hello http://127.0.0.1:9100/kv/molecule").rc == 0
    assert host.check_output("curl -fsS http://127.0.0.1:9100/kv/molecule") == "hello"


def test_the_admin_sees_the_nodes(ops1):
    nodes = ops1.check_output("curl -fsS http://127.0.0.1:8080/api/v1/nodes")
    assert all(name in nodes for name in ("relay1", "relay2", "home1"))


def test_no_unit_has_failed(host):
    assert host.check_output("systemctl list-units --failed --no-legend --plain") == ""
