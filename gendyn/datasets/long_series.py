"""Long series: one path of many rows, to be cut by :func:`gendyn.data.blocked_split` and `gendyn.data.windows`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gendyn.data import Paths
from gendyn.data.storage.formats import open_npz
from gendyn.datasets.dataset import Dataset, Files

__all__ = ["LONG_SERIES"]

Reader = Callable[[Files, str], Paths]

_LONGMEMO = "R package longmemo"
_GPL = "GPL-2.0-or-later (the package)"


def _series(times: NDArray[Any], values: NDArray[Any], names: Sequence[str], **info: str) -> Paths:
    """Return one path, with what is NaN masked."""
    table = np.asarray(values, dtype=np.float64).reshape(len(times), -1)
    seen = ~np.isnan(table)
    return Paths(times, table[None], None if seen.all() else seen[None], names=names, info=info)


def _table(columns: Sequence[str], clock: str | None = None, names: Sequence[str] | None = None) -> Reader:
    """Read columns of a csv file, at the times of one of them or at the numbers of the rows."""

    def read(files: Files, split: str) -> Paths:
        frame = pd.read_csv(next(iter(files.values())))
        times = np.arange(len(frame)) if clock is None else frame[clock].to_numpy()
        return _series(times, frame[list(columns)].to_numpy(), names or columns)

    return read


def _monthly(files: Files, split: str) -> Paths:
    frame = pd.read_csv(next(iter(files.values())))
    times = frame["year"].to_numpy() + (frame["month"].to_numpy() - 1) / 12
    return _series(times, frame["anomaly_C"].to_numpy(), ["anomaly"])


def _index(files: Files, split: str) -> Paths:
    frame = pd.read_csv(next(iter(files.values())))
    names = ["return", "open_close", "rv", "vix"]
    return _series(np.arange(len(frame)), frame[names].to_numpy(), names, **_dates(frame["date"]))


def _hourly(files: Files, split: str) -> Paths:
    frame = pd.read_csv(next(iter(files.values())))
    names = [name for name in frame.columns if name != "date"]
    return _series(_hours(pd.to_datetime(frame["date"])), frame[names].to_numpy(), names, **_dates(frame["date"]))


def _beijing(files: Files, split: str) -> Paths:
    frame = pd.read_csv(next(iter(files.values())))
    when = pd.to_datetime(frame[["year", "month", "day", "hour"]])
    # The wind direction, a category, is left out; what the benchmarks use comes first.
    names = ["pm2.5", "DEWP", "TEMP", "PRES", "Iws", "Is", "Ir"]
    return _series(_hours(when), frame[names].to_numpy(), names, **_dates(when.astype(str)))


def _air_quality(files: Files, split: str) -> Paths:
    frame = pd.read_csv(next(iter(files.values())))
    when = pd.to_datetime(frame["Date"] + " " + frame["Time"], format="%d/%m/%Y %H:%M:%S")
    names = [name for name in frame.columns if name not in ("Date", "Time", "NMHC_GT")]
    # The sensor that missed nine values in ten comes last, so that dims=12 leaves it out.
    names.append("NMHC_GT")
    values = frame[names].to_numpy(dtype=np.float64)
    return _series(_hours(when), np.where(values == -200, np.nan, values), names, **_dates(when.astype(str)))


def _rates(files: Files, split: str) -> Paths:
    values = np.loadtxt(next(iter(files.values())), delimiter=",")
    names = ["Australia", "Britain", "Canada", "Switzerland", "China", "Japan", "New Zealand", "Singapore"]
    return _series(np.arange(len(values)), values, names)


_METERS = {
    "dccelectricitycivicsblocks12p20130221-1839.csv": "blocks 1 and 2",
    "dccelectricitycivicsblocks34p20130221-1840-tomo.csv": "blocks 3 and 4",
    "dccesbcivics15mindatalogp20130221-1843.csv": "import",
    "dccmainsgascivics15mindatalogp20130221-1849.csv": "gas",
}


def _offices(files: Files, split: str) -> Paths:
    days = {name: _quarter_hours(files[file]) for file, name in _METERS.items()}
    # Meters are joined by the date: their files do not have the same days.
    joined = pd.concat(days, axis=1).sort_index()
    joined = joined.reindex(pd.date_range(joined.index[0], joined.index[-1]))
    values = np.stack([joined[name].to_numpy().reshape(-1) for name in days], axis=1)
    return _series(np.arange(len(values)) / 4, values, list(days), first=str(joined.index[0].date()))


def _quarter_hours(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path, skiprows=1)
    # One of the files writes some years with two digits.
    frame.index = pd.DatetimeIndex(pd.to_datetime(frame["Date"], format="mixed", dayfirst=True))
    quarters = frame.iloc[:, 2:98].astype(np.float64)
    quarters.columns = pd.RangeIndex(96)
    return quarters


def _weekly(files: Files, split: str) -> Paths:
    frame = pd.read_csv(next(iter(files.values())))
    when = pd.to_datetime(frame["date"].astype(int).astype(str), format="%Y%m%d")
    return _series(np.arange(len(frame)), frame["co2"].to_numpy(), ["co2"], **_dates(when.astype(str)))


def _candles(files: Files, split: str) -> Paths:
    arrays = open_npz(next(iter(files.values())))
    names = ["open", "high", "low", "close", "volume"]
    seconds = arrays["time_unix_s"]
    values = np.stack([arrays[name].astype(np.float64) for name in names], axis=1)
    first, last = (str(pd.Timestamp(int(seconds[k]), unit="s")) for k in (0, -1))
    return _series((seconds - seconds[0]) / 3600.0, values, names, first=first, last=last)


def _attractor(files: Files, split: str) -> Paths:
    arrays = open_npz(next(iter(files.values())))
    parts = {"train": arrays["train_noise05"], "test": arrays["test_clean"]}
    chosen = {name: values for name, values in parts.items() if split in ("all", name)}
    values = np.stack(list(chosen.values()))
    return Paths(0.01 * np.arange(values.shape[1]), values, labels=list(chosen), names=["x", "y", "z"])


def _electrodes(files: Files, split: str) -> Paths:
    values = open_npz(next(iter(files.values())))["x"]
    names = [f"electrode {k + 1}" for k in range(values.shape[1])]
    return Paths(np.arange(len(values)), values[None], names=names)


def _hours(when: pd.Series[Any]) -> NDArray[np.float64]:
    return np.asarray((when - when.iloc[0]) / pd.Timedelta(hours=1), dtype=np.float64)


def _dates(dates: pd.Series[Any]) -> dict[str, str]:
    return {"first": str(dates.iloc[0]), "last": str(dates.iloc[-1])}


def _long(file: str, description: str, source: str, licence: str, read: Reader, time: str, units: str) -> Dataset:
    return Dataset("timeseries_eval", (file,), description, source, licence, read, time, units)


def _memory(file: str, description: str, source: str, licence: str, read: Reader, time: str, units: str) -> Dataset:
    return Dataset("fractional", (file,), description, source, licence, read, time, units)


LONG_SERIES: dict[str, Dataset] = {
    "stock": _long(
        "stock_data.csv", "daily prices of Google from August 2004 on, 3685 trading days",
        "Yahoo Finance, as in the code of Yoon, Jarrett and van der Schaar, NeurIPS 2019", "prices: none stated",
        _table(("Open", "High", "Low", "Close", "Adj_Close", "Volume")), "trading days", "dollars; volume in shares",
    ),
    "etth1": _long(
        "ETTh1.csv", "an electricity transformer, 17420 hours of six loads and the oil's temperature",
        "Zhou et al., AAAI 2021 (ETDataset)", "CC BY-ND 4.0", _hourly, "hours",
        "loads: not stated; oil: degrees Celsius",
    ),
    "beijing-pm25": _long(
        "beijing_pm25.csv",
        "air of Beijing, 43824 hours of fine dust and weather, 2010 to 2014; 2067 values of dust are missing; dims=5 "
        "keeps what the benchmarks use",
        "UCI Machine Learning Repository, set 381 (Liang et al. 2015)", "CC BY 4.0", _beijing, "hours",
        "pm2.5 micrograms per cubic metre; DEWP, TEMP degrees Celsius; PRES hectopascal; Iws metres per second, "
        "summed over hours of one direction; Is, Ir hours",
    ),
    "air-quality": _long(
        "air_quality_uci.csv",
        "gas sensors in an Italian city, 9357 hours, 2004 to 2005; 4 to 90 per cent of each are missing; dims=12 "
        "leaves out the sensor that missed most",
        "UCI Machine Learning Repository, set 360 (De Vito et al. 2008)", "CC BY 4.0", _air_quality, "hours",
        "CO milligrams, NMHC, C6H6 and NO2 micrograms, AH grams per cubic metre; NOx parts per billion; T degrees "
        "Celsius; RH per cent; PT08 sensors: response, no unit",
    ),
    "exchange-rate": _long(
        "exchange_rate.csv", "daily exchange rates of 8 countries to the dollar, 7588 days, 1990 to 2016",
        "Lai et al., SIGIR 2018 (multivariate-time-series-data)", "none stated", _rates, "days",
        "dollars per unit of the currency",
    ),
    "civic-offices": Dataset("timeseries_eval/civic_electric", tuple(_METERS),
        "meters of the Dublin civic offices, every quarter of an hour for 695 days: three of electricity, one of gas; "
        "windows of 96 rows are days",
        "Dublin City Council", "open data", _offices, "hours",
        "electricity: kilowatt hours; gas: cubic metres",
    ),
    "co2": _long(
        "co2.csv", "carbon dioxide on Mauna Loa, 2284 weeks, 1958 to 2001; 59 weeks are missing",
        "Keeling and Whorf, as in statsmodels", "public domain", _weekly, "weeks",
        "parts per million",
    ),
    "sunspots": _long(
        "sunspots.csv", "sunspots, 309 years, 1700 to 2008", "SIDC, as in statsmodels", "public domain",
        _table(("SUNACTIVITY",), "YEAR", ("sunspots",)), "years", "sunspot numbers",
    ),
    "lynx": _long(
        "lynx.csv", "lynx trapped in Canada, 114 years, 1821 to 1934", "Elton and Nicholson 1942, as in aeon",
        "BSD-3-Clause (the package)", _table(("0",), "Unnamed: 0", ("lynx",)), "years", "animals",
    ),
    "lorenz63-standardised": Dataset("timeseries_eval", ("lorenz63_dsr.npz",),
        "simulated: Lorenz 1963, 100000 rows each, standardised; train has 5 per cent of noise, test is clean and "
        "independent",
        "Hess et al., ICML 2023 (generalized teacher forcing)", "GPL-3.0 (the code)", _attractor,
        "time units of the system", "standard deviations", ("train", "test"),
    ),
    "eeg64": _long(
        "eeg64_dsr.npz",
        "electroencephalogram with 64 electrodes, 9640 rows, standardised; the benchmark's train and test are "
        "the same rows",
        "Hess et al., ICML 2023 (generalized teacher forcing)", "GPL-3.0 (the code)", _electrodes, "samples",
        "standard deviations of an electrode",
    ),
    "btc": Dataset("solvers", ("BTCUSD_H1.npz",),
        "Bitcoin in dollars, 34111 hourly candles, 2017 to 2022; hours are missing where trading stopped",
        "Issa et al., NeurIPS 2023 (signature kernel scores)", "none stated", _candles, "hours",
        "dollars; volume in ticks",
    ),
    "brent": Dataset("solvers", ("BRENTCMDUSD_H1.npz",),
        "Brent crude oil in dollars, 51295 hourly candles, 2013 to 2022; hours are missing where trading stopped",
        "Issa et al., NeurIPS 2023 (signature kernel scores)", "none stated", _candles, "hours",
        "dollars; volume in ticks",
    ),
    "nile": _memory(
        "nile_minima.csv", "lowest water of the Nile at Roda, 663 years, 622 to 1284; noise: cumulate it for a path",
        f"Tousson 1925; Beran 1994; {_LONGMEMO}", _GPL, _table(("level",), "year"), "years",
        "those of the gauge, about centimetres",
    ),
    "nbs": _memory(
        "nbs_1kg.csv", "289 weighings of one kilogram, as deviations from it; noise: cumulate it for a path",
        f"Graf, Hampel and Tacier 1984; {_LONGMEMO}", _GPL, _table(("dev_ug",), "i", ("deviation",)), "weighings",
        "micrograms",
    ),
    "hemisphere": _memory(
        "nhemi_temp.csv", "temperature of the northern hemisphere, 1632 months, 1854 to 1989, as anomalies",
        f"Jones and Briffa 1992; {_LONGMEMO}", _GPL, _monthly, "years", "kelvin",
    ),
    "ethernet": _memory(
        "ethernet_traffic.csv", "traffic of a local network, 4000 counts in order; far from Gaussian",
        f"Leland and Wilson 1991; {_LONGMEMO}", _GPL, _table(("bytes",), "i"), "counts", "bytes",
    ),
    "video": _memory(
        "video_vbr.csv", "bits of 1000 coded video frames, about 25 a second; too persistent for fractional noise",
        f"Heeke 1991; {_LONGMEMO}", _GPL, _table(("rate",), "frame"), "frames", "bits",
    ),
    "spx": _memory(
        "spx_rv_2000_2018.csv",
        "S&P 500, 4600 trading days, 2000 to 2018: returns, open-close returns, realised variance, VIX; "
        "the log of the realised variance is a path, not noise",
        "Heber, Lunde, Shephard and Sheppard 2009 (Oxford-Man realized library); R package mfGARCH",
        "MIT (the package)", _index, "trading days", "per cent; rv: per cent squared",
    ),
}  # fmt: skip
