"""A video without its states: learn from pictures alone how a disc moves, with noise whose roughness is learned too.

    python examples/latent_video.py

Needs no data; takes a few minutes on two cores; ends in the picture latent_video.png.

The model is a latent equation with fractional noise (Daems, Opper, Crevecoeur and Birdal, Variational inference for
SDEs driven by fractional noise, 2024), in small:

    dx = b(x) dt + sigma(x) dB,    frame(t) = decoder(x(t)) + pixel noise

with B fractional Brownian motion of kind II, of which each latent dimension learns its own Hurst index; its Markov
approximation has five processes for each. The diffusion depends on the state, so the equation is Stratonovich's and
steps are Heun's. Given a video, a network shifts the driver by u dt; half the squared shift is what that costs.
"""

import math

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from gendyn import training
from gendyn.nn import MLP
from gendyn.randomness import torch_generator
from gendyn.sampling.fractional import HurstFamily, rates_between
from gendyn.sampling.fractional.shared_driver import driven_covariance, symmetric_root

FRAMES, SIZE, SUBSTEPS = 25, 16, 3
LATENT, FEATURES, CHANNELS = 2, 32, 8
PIXEL = 0.2
STEPS = 600


def draw_videos(n: int, seed: int) -> Tensor:
    """Return videos ``(n, T, 1, 16, 16)`` of a disc that bounces in a box, in a direction that is random each time."""
    draw = torch_generator(seed, "videos")
    place = 4 + 8 * torch.rand(n, 2, generator=draw)
    angle = 2 * math.pi * torch.rand(n, generator=draw)
    speed = torch.stack([angle.cos(), angle.sin()], 1)
    rows = torch.arange(SIZE).float()
    frames = []
    for _ in range(FRAMES):
        apart = (rows[:, None] - place[:, 1, None, None]).square() + (rows - place[:, 0, None, None]).square()
        frames.append(torch.sigmoid(3 * (2.5 - apart.sqrt())))
        place = place + speed
        hit = (place < 3) | (place > SIZE - 4)
        turned = torch.rand(n, 2, generator=draw) + 0.3
        speed = torch.where(hit, torch.where(place < 3, 1.0, -1.0) * turned, speed)
        speed = speed / speed.norm(dim=1, keepdim=True)
        place = place.clamp(3, SIZE - 4)
    return torch.stack(frames, 1)[:, :, None]


class LatentVideo(nn.Module):
    """Prior, posterior and decoder; see the top of the file for the equations."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *_down(1, CHANNELS), *_down(CHANNELS, 2 * CHANNELS), nn.Flatten(), nn.Linear(32 * CHANNELS, FEATURES)
        )
        self.content = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.SiLU(), nn.Linear(FEATURES, FEATURES))
        self.over_time = nn.Sequential(
            nn.Conv1d(FEATURES, FEATURES, 3, padding=1), nn.SiLU(), nn.Conv1d(FEATURES, FEATURES, 3, padding=1)
        )
        self.first = nn.Sequential(nn.Linear(4 * FEATURES, FEATURES), nn.SiLU(), nn.Linear(FEATURES, 2 * LATENT))
        self.decoder = nn.Sequential(
            nn.Linear(LATENT + FEATURES, 16 * 2 * CHANNELS), nn.SiLU(), nn.Unflatten(1, (2 * CHANNELS, 4, 4)),
            *_up(2 * CHANNELS, CHANNELS), *_up(CHANNELS, CHANNELS), nn.Conv2d(CHANNELS, 1, 3, padding=1), nn.Sigmoid(),
        )  # fmt: skip
        h = torch.tensor(1 / ((FRAMES - 1) * SUBSTEPS), dtype=torch.float64)
        rates = rates_between(float(h), 1.0, 5)
        self.family = HurstFamily(rates, 1.0, kind="II", weighting="pathwise")
        # Exact steps of dY_k = (u - gamma_k Y_k) dt + dB, whatever their length.
        self.register_buffer("decay", torch.exp(-rates * h).float())
        self.register_buffer("gain", (-torch.expm1(-rates * h) / rates).float())
        self.register_buffer("root", symmetric_root(driven_covariance(rates, h)).float())
        self.step, self.count = float(h), len(rates)
        self.drift = MLP(LATENT, LATENT, (64, 64), "tanh", seed=1)
        self.control = MLP(LATENT * (1 + self.count) + FEATURES, LATENT, (64, 64), "tanh", seed=2, final_scale=0.0)
        # One small network of its own coordinate for each diffusion: such noises commute.
        self.spread = nn.ParameterList([torch.randn(LATENT, 16), torch.zeros(LATENT, 16), torch.zeros(LATENT, 16)])
        self.logit_hurst = nn.Parameter(torch.zeros(LATENT))
        self.prior_mean, self.prior_log = nn.Parameter(torch.zeros(LATENT)), nn.Parameter(torch.zeros(LATENT))

    @property
    def hurst(self) -> Tensor:
        """The Hurst index of each latent dimension."""
        return torch.sigmoid(self.logit_hurst)

    def diffusion(self, x: Tensor) -> Tensor:
        """Return sigma of states ``(B, D)``."""
        inner, shift, outer = self.spread
        return nn.functional.softplus((torch.tanh(x[..., None] * inner + shift) * outer).sum(-1))

    def run(self, x: Tensor, seen: Tensor | None, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the states at all frames ``(B, T, D)``, and what a posterior given features ``(B, T, F)`` costs."""
        weights = self.family.weights(self.hurst).float()
        y, cost, states = x.new_zeros(*x.shape, self.count), x.new_zeros(len(x)), [x]
        for k in range((FRAMES - 1) * SUBSTEPS):
            before = y
            normals = torch.randn(y.shape, generator=draw)
            y = self.decay * y + normals @ self.root.mT
            if seen is not None:
                frame, part = divmod(k, SUBSTEPS)
                here = torch.lerp(seen[:, frame], seen[:, frame + 1], part / SUBSTEPS)
                u = self.control(torch.cat([x, before.flatten(1), here], 1))
                y = y + self.gain * u[..., None]
                cost = cost + 0.5 * self.step * u.square().sum(1)
            noise, force, sigma = ((y - before) * weights).sum(-1), self.step * self.drift(x), self.diffusion(x)
            ahead = x + force + sigma * noise
            x = x + force + 0.5 * (sigma + self.diffusion(ahead)) * noise
            if (k + 1) % SUBSTEPS == 0:
                states.append(x)
        return torch.stack(states, 1), cost

    def given(self, videos: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return what videos may have been, and the divergence of posterior from prior ``(B,)``."""
        features = self.encoder(videos.flatten(0, 1)).unflatten(0, videos.shape[:2])
        seen = self.over_time(features.mT).mT
        mean, log = self.first(torch.cat([seen[:, 0], features[:, :3].flatten(1)], 1)).chunk(2, 1)
        x = mean + log.exp() * torch.randn(mean.shape, generator=draw)
        apart = ((mean - self.prior_mean).square() + (2 * log).exp()) / (2 * self.prior_log).exp()
        start = (0.5 * (apart - 1) + self.prior_log - log).sum(1)
        states, cost = self.run(x, seen, draw)
        return self.decode(states, self.content(features.median(1).values)), start + cost

    def decode(self, states: Tensor, content: Tensor) -> Tensor:
        """Return frames of states ``(B, T, D)`` and of what does not move ``(B, F)``."""
        told = torch.cat([states, content[:, None].expand(-1, states.shape[1], -1)], 2)
        return self.decoder(told.flatten(0, 1)).unflatten(0, states.shape[:2])

    def generate(self, videos: Tensor, draw: torch.Generator) -> Tensor:
        """Return new videos that look like given ones and move as the prior does."""
        features = self.encoder(videos.flatten(0, 1)).unflatten(0, videos.shape[:2])
        x = self.prior_mean + self.prior_log.exp() * torch.randn(len(videos), LATENT, generator=draw)
        return self.decode(self.run(x, None, draw)[0], self.content(features.median(1).values))


def _down(inner: int, outer: int) -> list[nn.Module]:
    return [nn.Conv2d(inner, outer, 3, padding=1), nn.MaxPool2d(2), nn.GroupNorm(4, outer), nn.SiLU()]


def _up(inner: int, outer: int) -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2), nn.Conv2d(inner, outer, 3, padding=1), nn.GroupNorm(4, outer), nn.SiLU()]


class Evidence:
    """Minus the bound of the log evidence of a video, up to a constant."""

    def __init__(self, module: LatentVideo, videos: Tensor) -> None:
        self.module, self._videos = module, videos

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of 32 videos; the divergence grows to its weight over the first steps."""
        rows = torch.randint(len(self._videos), (32,), generator=generator)
        shown, divergence = self.module.given(self._videos[rows], generator)
        missed = (shown - self._videos[rows]).square().sum((1, 2, 3, 4)) / (2 * PIXEL**2)
        return (missed + min(1.0, (step + 1) / 200) * divergence).mean()


videos, others = draw_videos(512, seed=0), draw_videos(64, seed=1)
with torch.random.fork_rng(devices=[]):
    torch.manual_seed(0)
    model = LatentVideo()
result = training.fit(Evidence(model, videos), steps=STEPS, lr=3e-3, seed=0)

with torch.no_grad():
    draw = torch_generator(0, "shown")
    shown, divergence = model.given(others, draw)
    made = model.generate(others, draw)
error = (shown - others).square().mean().sqrt().item()
still = (videos.mean((0, 1)) - others).square().mean().sqrt().item()
print(f"{result.steps} steps in {result.seconds:.0f} s")
print(f"pixels of videos that were not trained on: off by {error:.3f}; by {still:.3f} if nothing is known of the place")
print(f"nats of a video: {divergence.mean().item():.1f}")
print(f"Hurst index of each latent dimension: {', '.join(f'{h:.2f}' for h in model.hurst.tolist())}")

figure, axes = plt.subplots(3, 9, figsize=(9, 3.4))
for row, (name, clip) in enumerate({"video": others[0], "given it": shown[0], "generated": made[0]}.items()):
    axes[row, 0].set_ylabel(name)
    for column, axis in enumerate(axes[row]):
        axis.imshow(clip[3 * column, 0], vmin=0, vmax=1, cmap="gray")
        axis.set(xticks=[], yticks=[], title=f"frame {3 * column}" if row == 0 else "")
figure.tight_layout()
figure.savefig("latent_video.png", dpi=160)
print("picture: latent_video.png")
