"""How reasoning samples are made: what a recipe says to synthesis, validated when made. `manifests.recipe.Recipe` holds one."""

from __future__ import annotations

from dataclasses import dataclass, field

from manifests.require import require as _require


@dataclass(frozen=True, kw_only=True)
class MadeSpec:
    """What reasoning synthesis draws itself, with known truth: how many of each kind (`synth_cot.made`).

    Attributes:
        pictures: of coloured shapes.
        pairs: two pictures that differ by known edits.
        films: of things that come and go.
        tables: of whole numbers.
    """

    pictures: int = 400
    pairs: int = 400
    films: int = 400
    tables: int = 400

    def __post_init__(self) -> None:
        for name in ("pictures", "pairs", "films", "tables"):
            _require(getattr(self, name) >= 0, f"synth.made: {name}={getattr(self, name)} must not be negative")


@dataclass(frozen=True, kw_only=True)
class TeacherSpec:
    """A model that writes responses: behind an OpenAI-compatible endpoint, or in a local folder or GGUF file.

    Attributes:
        name: what ledger and samples call it.
        tasks: prefixes of the tasks that are routed to it, ``*`` for all; the longest matching prefix of all teachers wins.
        endpoint: URL that ``/chat/completions`` is put behind; empty for a local model.
        model: the name by which the endpoint knows it; for a local model a folder of transformers or a ``.gguf`` file.
        revision: of the model, as its owner calls it; a new one is asked anew.
        api_key_env: environment variable that holds the key; None for an endpoint without one. The key is never written.
        samples: responses to each question; the share that passes all checks is the question's ``pass_rate``.
        temperature, top_p: of sampling.
        max_tokens: length of a response; one that is cut off there is not used.
        pixels_max: a larger picture is shown smaller.
        frames_max: frames shown of a clip, at most.
        picture_tokens: prompt tokens that one picture may cost, at most: what the budget reserves for it.
        prompt_price, completion_price: US dollars per million tokens.
        budget_usd, budget_tokens: what a ledger may spend on this teacher, all runs together; None for no limit.
        concurrency: requests in flight at once, of all processes of a machine together.
        timeout_s: seconds after which a call is given up.
        retries: further calls for a request that failed for a passing reason.
        requests_per_minute: calls of a machine, at most; 0 for no limit.
        tolerance: how far a box or interval it cites may miss the known one, as 1 - IoU.
        mask: whether it is asked again with the evidence masked: an answer that does not change is not kept.
        review: whether doubtful maths is put before it once more, as a reviewer.
    """

    name: str
    tasks: tuple[str, ...] = ("*",)
    endpoint: str = ""
    model: str = ""
    revision: str = "1"
    api_key_env: str | None = None
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 1024
    pixels_max: int = 1_003_520
    frames_max: int = 32
    picture_tokens: int = 2_048
    prompt_price: float = 0.0
    completion_price: float = 0.0
    budget_usd: float | None = None
    budget_tokens: int | None = None
    concurrency: int = 16
    timeout_s: float = 120.0
    retries: int = 5
    requests_per_minute: float = 0.0
    tolerance: float = 0.3
    mask: bool = True
    review: bool = True

    def __post_init__(self) -> None:
        label = f"teacher {self.name}"
        _require(bool(self.name) and "/" not in self.name, f"teacher name {self.name!r} must not be empty or hold a slash")
        _require(bool(self.tasks), f"{label}: tasks is empty: name prefixes, or * for all")
        web = not self.endpoint or self.endpoint.startswith(("http://", "https://"))
        _require(web, f"{label}: endpoint={self.endpoint!r} must begin with http:// or https://")
        _require("@" not in self.endpoint, f"{label}: endpoint names a user or password: put the key into api_key_env")
        _require(bool(self.model), f"{label}: model is empty")
        _require(1 <= self.samples <= 64, f"{label}: samples={self.samples} must be between 1 and 64")
        _require(self.temperature >= 0, f"{label}: temperature={self.temperature} must not be negative")
        _require(
            self.samples == 1 or self.temperature > 0,
            f"{label}: samples={self.samples} at temperature=0 would all be the same: raise the temperature",
        )
        _require(0 < self.top_p <= 1, f"{label}: top_p={self.top_p} must be in (0, 1]")
        for name in ("max_tokens", "frames_max", "picture_tokens"):
            _require(getattr(self, name) >= 1, f"{label}: {name}={getattr(self, name)} must be at least 1")
        _require(self.pixels_max >= 784, f"{label}: pixels_max={self.pixels_max} must be at least 784, one visual token")
        for name in ("prompt_price", "completion_price", "requests_per_minute", "budget_usd", "budget_tokens"):
            value = getattr(self, name)
            _require(value is None or value >= 0, f"{label}: {name}={value} must not be negative")
        _require(1 <= self.concurrency <= 1024, f"{label}: concurrency={self.concurrency} must be between 1 and 1024")
        _require(self.timeout_s > 0, f"{label}: timeout_s={self.timeout_s} must be above 0")
        _require(0 <= self.retries <= 20, f"{label}: retries={self.retries} must be between 0 and 20")
        _require(0 <= self.tolerance < 1, f"{label}: tolerance={self.tolerance} must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class SynthSpec:
    """How reasoning samples are made.

    Attributes:
        stem_problems: questions asked of each STEM generator.
        questions_per_item: questions asked of one screenshot or video, at most, by task.
        questions_per_made: the same for what is drawn.
        made: what is drawn.
        question_files: ``.jsonl`` files or folders of the user's own questions with answers (`synth_cot.query_files`).
        think_tasks: tasks whose answer keeps its ``<think>`` reasoning; the others answer directly.
        direct_share: share of the questions of think tasks that ask for a direct answer nevertheless.
        clue_share: share of the questions with options about videos that ask for clue intervals as well.
        text_share: share of samples without pictures; the surplus of either side is dropped. None takes all.
        pass_rate_max: questions that a teacher answers right more often are dropped as too easy.
        benchmarks: files and folders of evaluation data, besides those of ``curate.quality.benchmarks``: a question near one of
            their items is not asked.
        teachers: models that write responses; tasks that none is routed to are worked out from the annotation.
        ledger: a folder outside the corpus that keeps requests and responses for other corpora; None: ``_work/teachers``.
        seed: what every choice depends on.
    """

    stem_problems: int = 100
    questions_per_item: int = 4
    questions_per_made: int = 2
    made: MadeSpec = field(default_factory=MadeSpec)
    question_files: tuple[str, ...] = ()
    think_tasks: tuple[str, ...] = (
        "stem", "query", "count", "video", "compare", "film", "pair", "difference", "relation", "sum", "most", "mentions",
    )  # fmt: skip
    direct_share: float = 0.05
    clue_share: float = 0.3
    text_share: float | None = 0.4
    pass_rate_max: float = 1.0
    benchmarks: tuple[str, ...] = ()
    teachers: tuple[TeacherSpec, ...] = ()
    ledger: str | None = None
    seed: int = 17

    def __post_init__(self) -> None:
        for name in ("stem_problems", "questions_per_item", "questions_per_made"):
            _require(getattr(self, name) >= 0, f"{name}={getattr(self, name)} must not be negative")
        for name in ("direct_share", "clue_share", "text_share", "pass_rate_max"):
            value = getattr(self, name)
            _require(value is None or 0 <= value <= 1, f"synth: {name}={value} must be in [0, 1]")
        names = [teacher.name for teacher in self.teachers]
        _require(len(set(names)) == len(names), f"synth: two teachers have one name: {names}")
        _require("programmatic" not in names, "synth: a teacher must not be called programmatic")
