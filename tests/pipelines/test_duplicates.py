"""The same thing twice is found through its bytes, its look and its words; different things that look alike are not."""

from __future__ import annotations

import io
import itertools
import random
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image, ImageEnhance

from manifests.looks import agreement, look
from manifests.recipe import Recipe
from pipelines.decoding import decode
from pipelines.duplicates import Signature, components, find_links, look_distance, shingle_minhash
from pipelines.extraction import Outcome
from pipelines.films import Film, key_looks, pack_looks, same_film
from pipelines.pictures import PictureStore

BITS = 6


def links(*signatures: Signature, checksums: list[str] | None = None) -> list[tuple[int, int, str]]:
    names = checksums or [str(place) for place in range(len(signatures))]
    found = find_links(names, signatures, near_image_bits=BITS, near_text_similarity=0.8)
    return [(link.left, link.right, link.reason) for link in found]


def seen(path: Path, recipe: Recipe) -> Film:
    store = PictureStore()
    film = decode(path, recipe.visual, 64, 90, store)
    keys = key_looks(film.looks, lambda time: film.frames[round(time * film.fps)].media_id, store)
    return Film(pack_looks(film.looks), *keys)


def video(film: Film) -> Signature:
    return Signature(kind="video", looks=film.packed, windows=film.windows, small=film.small)


def film_of(looks: list[tuple[float, int]]) -> Film:
    return Film(pack_looks(looks))


def test_a_compressed_copy_is_near_and_an_excerpt_only_shares_its_side(examples: Path, recipe: Recipe) -> None:
    names = ("carphone-pristine.mp4", "carphone-distorted.mp4", "bunny-stretch.mp4", "bunny-trailer.mp4")
    film = {name: seen(examples / "videos" / name, recipe) for name in names}
    copy = same_film(film["carphone-pristine.mp4"], film["carphone-distorted.mp4"], BITS)
    assert copy is not None
    assert copy[0] == "near_duplicate"
    excerpt = same_film(film["bunny-stretch.mp4"], film["bunny-trailer.mp4"], BITS)
    assert excerpt is not None
    assert excerpt[0] == "excerpt"


def test_different_recordings_are_not_duplicates(examples: Path, recipe: Recipe) -> None:
    names = ("bikes.mp4", "mahjongg-hints.mp4", "mahjongg-pairs.mp4", "tetravex.mp4", "lightsoff.mp4", "carphone-pristine.mp4")
    signatures = [video(seen(examples / "videos" / name, recipe)) for name in names]
    assert links(*signatures) == []


def test_a_shared_title_card_is_no_duplicate() -> None:
    rng = random.Random(1)
    card = [(float(second), 0x1234_5678_9ABC_DEF0) for second in range(4)]
    one = [*card, *((float(second), rng.getrandbits(64)) for second in range(4, 20))]
    other = [*card, *((float(second), rng.getrandbits(64)) for second in range(4, 20))]
    assert same_film(film_of(one), film_of(other), BITS) is None
    assert same_film(film_of(one), film_of([(time + 7, value) for time, value in one[4:]]), BITS) is not None


def test_a_rescaled_and_brightened_picture_is_near_and_others_are_not(
    examples: Path, read: Callable[..., Outcome], recipe: Recipe
) -> None:
    original = Image.open(examples / "images" / "coffee.jpg")
    changed = ImageEnhance.Brightness(original.resize((original.width // 2, original.height // 2))).enhance(1.15)
    stream = io.BytesIO()
    changed.save(stream, "JPEG", quality=40)
    caption = {".caption.json": b'{"caption": "a cup of coffee on a table"}'}
    signatures = [
        read("a.jpg", data, caption).signature
        for data in (examples / "images" / "coffee.jpg", stream.getvalue(), examples / "images" / "chelsea.jpg")
    ]
    assert links(*[signature for signature in signatures if signature]) == [(0, 1, "near_duplicate")]


def flag(colours: Iterable[tuple[int, int, int]]) -> Image.Image:
    """Stripes."""
    made = Image.new("RGB", (300, 210))
    for stripe, colour in enumerate(colours):
        made.paste(colour, (0, 70 * stripe, 300, 70 * (stripe + 1)))
    return made


def test_a_flag_is_near_its_copy_though_noise_has_moved_its_hash() -> None:
    """Stripes leave most coefficients at zero, where compression decides on their side of the median."""
    moved = 0
    for greys in itertools.permutations((30, 90, 160, 230), 3):
        stream, original = io.BytesIO(), flag((grey, 255 - grey, grey // 2) for grey in greys)
        ImageEnhance.Brightness(original.resize((120, 84))).enhance(1.1).save(stream, "JPEG", quality=15)
        found = look(original), look(Image.open(stream).convert("RGB"))
        assert None not in found
        moved += look_distance(found[0].windows, found[1].windows) > BITS
        assert links(*map(Signature.of_picture, found)) == [(0, 1, "near_duplicate")]
    assert moved


def test_flags_with_other_stripes_are_not_near() -> None:
    """Their thumbnails are correlated by more than 0.97; contrast and brightness tell them apart."""
    flags = [look(flag((grey,) * 3 for grey in greys)) for greys in ((20, 80, 140), (20, 120, 220), (110, 170, 230))]
    assert None not in flags
    assert min(agreement(one.small, other.small) for one, other in itertools.combinations(flags, 2)) > 0.97
    assert links(*map(Signature.of_picture, flags)) == []


def test_texts_by_their_words() -> None:
    words = [f"word{number % 97} item{number % 31} thing{number}" for number in range(300)]
    text = " ".join(words)
    edited = " ".join(["Another heading.", *words[:-3]]).upper()
    other = " ".join(reversed(text.split()))
    signatures = [Signature(kind="text", minhash=shingle_minhash(value)) for value in (text, edited, other, "too short")]
    assert links(*signatures) == [(0, 1, "near_duplicate")]
    assert shingle_minhash("four words are few") == b""
    assert shingle_minhash("今日はとても良い天気ですね") != b""


def test_screens_that_look_alike_stay_and_share_a_side_only_when_equal() -> None:
    one, two = (Signature(kind="exact", pictures=(name,)) for name in ("p", "q"))
    assert links(one, two) == []
    assert links(one, one) == [(0, 1, "shared_picture")]
    assert links(one, two, checksums=["same", "same"]) == [(0, 1, "exact_duplicate")]


def test_components_do_not_depend_on_the_order_of_links() -> None:
    pairs = [(0, 3), (3, 5), (1, 2), (4, 5)]
    for order in itertools.permutations(pairs):
        assert list(components(7, order)) == [0, 1, 1, 0, 0, 0, 6]
