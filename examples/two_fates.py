"""Two fates: learn how progenitor cells commit, from populations at five times, and predict a time nobody measured.

    python examples/two_fates.py

Needs no data; takes about half a minute on two cores; ends in the picture two_fates.png.
"""

import gendyn as gd

# A gene circuit with known truth: two genes that activate themselves and repress each other. Every time has its own
# 500 cells, as in an experiment that destroys what it measures.
circuit = gd.systems.ToggleSwitch()
data = gd.systems.simulate_snapshots(circuit, times=[0, 1, 2, 3, 4, 6], n=500, seed=0)

# Pretend that nobody measured time 3.
train, truth = data.without(3.0), data.only(3.0)

# One velocity field over all times, along splines through chained optimal-transport plans.
model = gd.FlowMatching("spline-ot", steps=2000).fit(train, seed=0)

# Run it: trajectories from the measured cells of time 0.
paths = model.sample(train.at(0.0), times=[0.15 * k for k in range(41)])

# How far is the predicted population from the true one? Every number stands next to its sampling floor.
print(gd.evaluate(truth, paths.snapshots(3.0)))

# And is that better than not learning at all? Skill 0 is optimal transport alone, 1 is another sample of the truth.
print(gd.leave_one_out(data, {"spline-ot": gd.FlowMatching("spline-ot", steps=2000)}, times=[3.0]))

gd.plotting.hold_out(train, paths, truth).savefig("two_fates.png", dpi=160)
print("picture: two_fates.png")
