"""ImageNet's class names: as many as there are classes, each once, in the labels' order."""

from cnnlab.data.imagenet_classes import NAMES


def test_names():
    assert len(NAMES) == len(set(NAMES)) == 1000
    assert all(name == name.strip() and name and "\n" not in name for name in NAMES)
    known = {0: "tench", 1: "goldfish", 207: "golden retriever", 281: "tabby", 340: "zebra", 388: "giant panda"}
    known |= {134: "crane bird", 517: "crane", 701: "parachute", 817: "sports car", 954: "banana", 999: "toilet tissue"}
    assert {label: NAMES[label] for label in known} == known
