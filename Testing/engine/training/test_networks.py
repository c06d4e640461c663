"""Which trained weights of one network another one starts from."""

import torch
from carlreg.models.registry import load
from carlreg.training import networks


def test_a_network_without_attention_takes_the_local_attention_of_another():
    network = networks.build("constricon")
    start = networks.put_start(network, "constricon", "carl-compact")
    assert start.parts == ["refinement"] and {one["stage"] for one in start.history} == {"refinement"}
    theirs = load("carl-compact").network
    quarter, half = theirs.first.second.state_dict(), theirs.second.state_dict()
    flows = network.second
    for step, expected in ((network.first, quarter), (flows.first, quarter), (flows.second.first, half)):
        found = step.net.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
