"""Pictures of one's own: files of every kind, folders as batches."""

import threading
import warnings

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from small import compiled

from npnet.datasets import folders
from npnet.layers import Dense, Flatten, Rescaling
from npnet.optimizers import Adam
from npnet.utils import image_dataset_from_directory, img_to_array, load_img

RNG = np.random.default_rng(0)
SIZE = (6, 8)


def picture(value=None, mode="RGB", size=(8, 6)):
    pixels = RNG.integers(0, 256, (size[1], size[0], 3), np.uint8)
    if value is not None:
        pixels[:] = value
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture
def folder(tmp_path):
    """Ten cats, dark, and six dogs, bright, one of them in a sub-folder, in many formats."""
    endings = ["png", "jpg", "webp", "gif", "bmp", "tif", "JPEG"]
    for name, count, value in (("cats", 10, 30), ("dogs", 6, 220)):
        (tmp_path / "set" / name / "more").mkdir(parents=True)
        for i in range(count):
            place = tmp_path / "set" / name / ("more" if i == 0 else "")
            mode = "P" if i == 3 else "L" if i == 1 else "RGB"
            ending = "png" if mode == "P" else endings[i % 7]
            picture(value + i, mode, (8 + i, 6 + i)).save(place / f"{i}.{ending}")
    return tmp_path / "set"


def test_a_folder_trains_and_predicts(folder):
    data = image_dataset_from_directory(folder, image_size=SIZE, batch_size=5, seed=1, verbose=False)
    assert data.class_names == ["cats", "dogs"] and len(data) == 4
    x, y = data[0]
    assert x.shape == (5, *SIZE, 3) and x.dtype == np.float32 and y.dtype == np.int32
    model = compiled(
        [Rescaling(1 / 255, input_shape=(*SIZE, 3)), Flatten(), Dense(2, "softmax")],
        "sparse_categorical_crossentropy",
        "float32",
        metrics=["accuracy"],
        optimizer=Adam(0.05),
    )
    model.fit(data, epochs=25, verbose=0)
    assert model.evaluate(data, verbose=0, return_dict=True)["accuracy"] == 1
    labels = np.concatenate([y for _, y in data])
    assert (model.predict(data, verbose=0).argmax(1) == labels).all()
    assert [path.split("/")[-2 if "more" not in path else -3] for path in data.file_paths] == [
        data.class_names[k] for k in labels
    ]


def test_modes_of_labels_and_colours(folder):
    def first(**options):
        return image_dataset_from_directory(
            folder, image_size=SIZE, shuffle=False, batch_size=16, verbose=False, **options
        )[0]

    labels = [0] * 10 + [1] * 6
    assert (first()[1] == labels).all()
    assert (first(label_mode="categorical")[1] == np.eye(2)[labels]).all()
    assert (first(label_mode="binary")[1] == np.array(labels)[:, None]).all()
    assert first(label_mode=None).shape == (16, *SIZE, 3)
    assert (first(class_names=["dogs", "cats"])[1] == [0] * 6 + [1] * 10).all()
    assert first(color_mode="grayscale")[0].shape[-1] == 1
    assert first(color_mode="rgba")[0].shape[-1] == 4


def test_parts_are_apart_and_together_everything(folder, capsys):
    options = {"validation_split": 0.25, "seed": 3, "image_size": SIZE}
    train = image_dataset_from_directory(folder, subset="training", **options)
    held = image_dataset_from_directory(folder, subset="validation", **options)
    assert len(train.file_paths) == 12 and len(held.file_paths) == 4
    assert len({*train.file_paths, *held.file_paths}) == 16
    both = image_dataset_from_directory(folder, subset="both", **options)
    assert [part.file_paths for part in both] == [train.file_paths, held.file_paths]
    assert capsys.readouterr().out == "Found 16 files belonging to 2 classes.\n" * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": [1, 2]}, "labels must be 'inferred'"),
        ({"label_mode": "ints"}, 'label_mode must be "int"'),
        ({"color_mode": "rbg"}, "Unknown color_mode 'rbg'. Did you mean \"rgb\""),
        ({"interpolation": "cubic"}, "Unknown interpolation"),
        ({"image_size": 5}, r"image_size must be \(height, width\)"),
        ({"validation_split": 0.1}, "belong together"),
        ({"validation_split": 0.1, "subset": "training"}, "validation_split needs a seed"),
        ({"validation_split": 0.01, "subset": "both", "seed": 1}, "leaves none to validate on"),
        ({"class_names": ["cats"]}, "class_names must be the sub-folders of .*, cats, dogs, got cats"),
    ],
)
def test_wrong_arguments_of_folders(folder, options, message):
    with pytest.raises(ValueError, match=message):
        image_dataset_from_directory(folder, verbose=False, **options)


def test_what_is_in_a_folder_and_is_no_picture_is_said(folder, tmp_path):
    (folder / "cats/notes.txt").write_text("x")
    (folder / "readme.md").write_text("x")
    (folder / ".hidden").mkdir()
    with pytest.warns(UserWarning, match=r"no pictures of a class .* out: readme.md, cats/notes.txt"):
        assert len(folders.find(folder).files) == 16
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no picture"):
        folders.find(folder)
    with pytest.raises(ValueError, match="has no sub-folders"):
        folders.find(folder / "dogs/more")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        folders.find(tmp_path / "nothing")


def test_hidden_folders_are_left_out_and_links_followed(folder, tmp_path):
    (folder / "cats/.ipynb_checkpoints").mkdir()
    picture().save(folder / "cats/.ipynb_checkpoints/0-checkpoint.png")
    (tmp_path / "elsewhere").mkdir()
    picture().save(tmp_path / "elsewhere/linked.png")
    (folder / "dogs/link").symlink_to(tmp_path / "elsewhere")
    (folder / "dogs/loop").symlink_to(folder / "dogs")
    files = [path.name for path in folders.find(folder).files]
    assert (
        files.count("linked.png") == 1
        and len(files) == 17
        and "linked.png" in files
        and "0-checkpoint.png" not in files
    )
    (folder / "dogs/lost.png").symlink_to(folder / "nowhere.png")
    data = image_dataset_from_directory(folder, image_size=SIZE, shuffle=False, verbose=False)
    with pytest.raises(FileNotFoundError, match=r"lost.png"):
        list(data)


def test_pictures_read_at_once_leave_warnings_as_they_were(tmp_path, monkeypatch):
    """The second reader begins before the first has ended, and ends after it."""
    picture().save(tmp_path / "a.png")
    opened, ended = threading.Event(), threading.Event()
    original = PngImageFile.load

    def slowly(image):
        if threading.current_thread().name == "second":
            opened.set()
            assert ended.wait(10)
        else:
            assert opened.wait(10)
        return original(image)

    monkeypatch.setattr(PngImageFile, "load", slowly)
    before = list(warnings.filters)
    second = threading.Thread(target=load_img, args=[tmp_path / "a.png"], name="second")
    starter = threading.Timer(0.1, second.start)
    starter.start()
    load_img(tmp_path / "a.png")
    ended.set()
    starter.join()
    second.join()
    assert warnings.filters == before
    with pytest.warns(UserWarning, match="still shown"):
        warnings.warn("still shown", stacklevel=1)


def test_a_picture_of_floating_point_numbers_is_refused(tmp_path):
    Image.fromarray(np.full((6, 8), 0.5, np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(ValueError, match=r"f.tif holds floating-point numbers, and does not say which"):
        load_img(tmp_path / "f.tif")


def test_a_damaged_picture_is_named_with_its_batch(folder):
    (folder / "cats/2.webp").write_bytes(b"RIFF")
    data = image_dataset_from_directory(folder, image_size=SIZE, batch_size=1, shuffle=False, verbose=False)
    with pytest.raises(ValueError, match=r"2.webp is no PNG, JPEG") as error:
        list(data)
    assert "This was batch 1 of the PictureBatches." in error.value.__notes__


def test_load_img_and_img_to_array(tmp_path):
    image = picture()
    image.save(tmp_path / "a.png")
    assert (img_to_array(load_img(tmp_path / "a.png")) == np.asarray(image)).all()
    assert img_to_array(load_img(tmp_path / "a.png", "grayscale")).shape == (6, 8, 1)
    assert img_to_array(load_img(tmp_path / "a.png", target_size=(3, 5)), dtype=np.uint8).dtype == np.uint8
    resized = image.resize((5, 3), Image.Resampling.BILINEAR)
    assert load_img(tmp_path / "a.png", target_size=(3, 5), interpolation="bilinear") == resized
    assert load_img(tmp_path / "a.png", "rgb", (6, 6), keep_aspect_ratio=True) == image.crop((1, 0, 7, 6))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    image.save(tmp_path / "b.png", exif=exif)
    turned = image.transpose(Image.Transpose.ROTATE_270)
    assert (img_to_array(load_img(tmp_path / "b.png")) == np.asarray(turned)).all()
    with pytest.raises(ValueError, match="img must be an image"):
        img_to_array(np.zeros(3))
    with pytest.raises(ValueError, match="data_format must be None or 'channels_last'"):
        img_to_array(image, "channels_first")
    with pytest.raises(FileNotFoundError):
        load_img(tmp_path / "nothing.png")
