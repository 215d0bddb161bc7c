"""A small folder laid out like Aff-Wild2, with each oddity of the real one once, and the manifest and audit that it must give.

Videos are tiny, annotations made up, cropped images empty files.
"""

from fractions import Fraction
from pathlib import Path

import clips

from affpipe.core.tasks.table import TASKS

FRAMES, SHORT = 60, 20  # of a video, of those of the test set
NTSC = Fraction(30000, 1001)
AVI = {"codec": "mpeg4", "time_base": 1 / NTSC, "fps": NTSC}
VIDEOS = {  # path -> what `clips.write` is told
    "batch1/1-30-1280x720.mp4": {"fps": NTSC},
    "batch1/10-60-1280x720.mp4": {},
    "batch1/duet.mp4": {"size": (128, 64)},
    "batch1/solo_left.mp4": {},
    "batch1/t1.MP4": {},
    "batch1/video2.avi": AVI,
    "batch1/video59.mp4": {"start_s": 1.0},
    "batch2/1-30-1280x720.avi": AVI | {"count": 10},
    "batch2/few.mp4": {},
    "batch2/most.mp4": {},
    "batch2/too few.mp4": {},
    "batch2/too many.mp4": {},
    "batch2/turned.mov": {"rotation_deg": 90},
    "batch2/vary.mkv": {"pts": [3600 * i + (900 if i == 30 else 0) for i in range(FRAMES)]},
    "new_vids/again.mp4": {"size": (96, 96)},
    "new_vids/both.mp4": {"count": SHORT},
    "new_vids/nobody.mp4": {"count": SHORT},
    "new_vids/t2.webm": {"count": SHORT, "codec": "libvpx"},
    "new_vids/t3.mp4": {"count": SHORT},
    "new_vids/t4.mp4": {"count": SHORT},
    "Annotations/VA_Estimation_Challenge/sample.mp4": {"count": 2},  # no video of the set
}
CELL = {"va": "{0:.3f},-0.5", "expr": "{1}", "au": "1,0,0,0,0,0,{2},0,0,0,1,0"}  # of row i: i / 1000, i % 8, i % 2


# ---- what it gives -----------------------------------------------------------------------------------------------------------------------

VA, EXPR, AU = "Annotations/VA_Estimation_Challenge", "Annotations/EXPR_Set", "Annotations/au_detection_challenge"
CROPS = "cropped_aligned_images"
MANIFEST = f"""\
stream_id,video,subject,partition,va,expr,au,images,va_partition,expr_partition,au_partition
1-30-1280x720,batch1/1-30-1280x720.mp4,largest,train,{VA}/Train_Set/1-30-1280x720.txt,{EXPR}/Validation_Set/1-30-1280x720.txt,\
,{CROPS}/cropped_aligned/1-30-1280x720,,validation,
10-60-1280x720,batch1/10-60-1280x720.mp4,left,train,{VA}/Train_Set/10-60-1280x720.txt,{EXPR}/Training_Set/10-60-1280x720.txt,,,,,
10-60-1280x720_right,batch1/10-60-1280x720.mp4,right,train,{VA}/Train_Set/10-60-1280x720_right.txt,,,,,,
again,new_vids/again.mp4,largest,train,,,{AU}/Train_Set/again.txt,,,,
both,new_vids/both.mp4,largest,validation,,{EXPR}/Validation_Set/both.txt,,,,,
broken,batch1/broken.mp4,largest,train,{VA}/Train_Set/broken.txt,,,,,,
duet_left,batch1/duet.mp4,left,train,{VA}/Train_Set/duet_left.txt,,,,,,
duet_right,batch1/duet.mp4,right,train,,{EXPR}/Training_Set/duet_right.txt,,,,,
few,batch2/few.mp4,largest,train,{VA}/Train_Set/few.txt,,{AU}/Train_Set/few.txt,,,,
most,batch2/most.mp4,largest,train,{VA}/Train_Set/most.txt,,,{CROPS}/cropped_aligned_new_50_vids/most,,,
solo_left,batch1/solo_left.mp4,largest,train,{VA}/Train_Set/solo_left.txt,,{AU}/Train_Set/solo_left.txt,,,,
t1,batch1/t1.MP4,largest,train,{VA}/Test_Set/t1.txt,,{AU}/Train_Set/t1.txt,{CROPS}/cropped_aligned_new_50_vids/t1,test,,
t2,new_vids/t2.webm,largest,test,,,,,,,predict
t3,new_vids/t3.mp4,largest,test,,,,,,,
t4,new_vids/t4.mp4,largest,test,,,,,,predict,
too few,batch2/too few.mp4,largest,train,{VA}/Train_Set/too few.txt,,,,,,
too many,batch2/too many.mp4,largest,train,{VA}/Train_Set/too many.txt,,,,,,
turned,batch2/turned.mov,largest,validation,{VA}/Validation_Set/turned.txt,,,,,,
vary,batch2/vary.mkv,largest,validation,{VA}/Validation_Set/vary.txt,,,,,,
video2,batch1/video2.avi,right,validation,{VA}/Validation_Set/video2.txt,,,,,,
video2_left,batch1/video2.avi,left,validation,{VA}/Validation_Set/video2_left.txt,,,,,,
video59,batch1/video59.mp4,left,validation,{VA}/Validation_Set/video59.txt,,,{CROPS}/cropped_aligned/video59,,,
"""
AUDIT = """\
stream,va,expr,au,video,frames,counted,fps,width,height,variable_rate,va_rows,va_rows_minus_frames,va_invalid,\
expr_rows,expr_rows_minus_frames,expr_invalid,au_rows,au_rows_minus_frames,au_invalid,images,first_image,last_image,gaps,note
1-30-1280x720,train,validation,,batch1/1-30-1280x720.mp4,60,decoded,30000/1001,96,64,no,60,0,0,60,0,3,,,,6,2,60,53,same name|tasks differ
10-60-1280x720,train,train,,batch1/10-60-1280x720.mp4,60,decoded,25,96,64,no,60,0,1,,,,,,,0,,,,label fault|images
10-60-1280x720_right,train,,,batch1/10-60-1280x720.mp4,60,decoded,25,96,64,no,60,0,2,,,,,,,,,,,
Again,train,,,,,,,,,,60,,0,,,,,,,,,,,missing video|similar name
again,,,train,new_vids/again.mp4,60,decoded,25,96,96,no,,,,,,,60,0,0,,,,,overlap|same content|similar name|same annotation
again (1),,,validation,batch1/again (1).mp4,60,decoded,25,96,96,no,,,,,,,60,0,2,,,,,left out|overlap|same content|similar name
both,,validation,,new_vids/both.mp4,20,decoded,25,96,64,no,,,,20,0,1,,,,,,,,two partitions
broken,train,,,batch1/broken.mp4,,,,,,,60,,0,,,,,,,,,,,unusable video
duet_left,train,,,batch1/duet.mp4,60,decoded,25,128,64,no,60,0,3,,,,,,,,,,,
duet_right,,train,,batch1/duet.mp4,60,decoded,25,128,64,no,,,,60,0,0,,,,,,,,two annotations
few,train,,train,batch2/few.mp4,60,decoded,25,96,64,no,11,-49,0,,,,60,0,0,,,,,same annotation
hollow,train,,,,,,,,,,60,,0,,,,,,,,,,,missing video
lost,train,,,,,,,,,,60,,0,,,,,,,,,,,missing video
most,train,,,batch2/most.mp4,60,decoded,25,96,64,no,62,2,0,,,,,,,3,1,63,61,images|images
solo_left,train,,train,batch1/solo_left.mp4,60,decoded,25,96,64,no,60,0,4,,,,60,0,0,,,,,same annotation
t1,test,,train,batch1/t1.MP4,60,decoded,25,96,64,no,60,0,60,,,,60,0,0,63,0,62,0,same annotation|images|tasks differ
t2,test,test,,new_vids/t2.webm,20,decoded,25,96,64,no,,,,20,0,,,,,,,,,
t3,test,test,test,new_vids/t3.mp4,20,decoded,25,96,64,no,,,,23,3,,,,,,,,,rows and frames
t4,test,,test,new_vids/t4.mp4,20,decoded,25,96,64,no,,,,,,,,,,,,,,
too few,train,,,batch2/too few.mp4,60,decoded,25,96,64,no,10,-50,0,,,,,,,,,,,rows and frames
too many,train,,,batch2/too many.mp4,60,decoded,25,96,64,no,63,3,0,,,,,,,,,,,rows and frames
turned,validation,,,batch2/turned.mov,60,decoded,25,64,96,no,60,0,0,,,,,,,,,,,same annotation
vary,validation,,,batch2/vary.mkv,60,decoded,25,96,64,yes,60,0,0,,,,,,,,,,,same annotation
video2,validation,,,batch1/video2.avi,60,decoded,30000/1001,96,64,no,60,0,31,,,,,,,,,,,mostly invalid
video2_left,validation,,,batch1/video2.avi,60,decoded,30000/1001,96,64,no,60,0,0,,,,,,,,,,,
video59,validation,,,batch1/video59.mp4,60,decoded,25,96,64,no,60,0,0,,,,,,,60,1,60,0,images
"""
FINDINGS = [  # kind, what it is about, a part of what it says
    ("missing video", "Again", "; rename it if it is new_vids/again.mp4"),
    ("missing video", "hollow", f"want a video hollow.mp4 (or .avi …) for {VA}/Train_Set/hollow.txt, got none: not in the manifest"),
    ("missing video", "lost", "; fetch it"),
    ("unusable video", "batch1/broken.mp4", "want a readable video, got "),
    ("unusable video", "batch1/hollow.mp4", "want a media file, got an empty one"),
    ("label fault", f"{EXPR}/Training_Set/10-60-1280x720.txt", "line 3: want a whole number from 0 to 7 or -1 in each cell, got '8'"),
    ("left out", "again (1)", "got 'again (1)'; rename its files"),
    ("two partitions", "both", "expr: want one partition, got train, validation: taken as validation"),
    ("two annotations", "duet_right", "not older/EXPR_Classification_Challenge/Train_Set/duet_right.txt (other bytes)"),
    (
        "overlap",
        "batch1/again (1).mp4",
        "au: want a video in train or in validation, got it in both (train: again (again.mp4); validation: again (1) (again (1).mp4)); "
        "as official lists have it",
    ),
    ("rows and frames", "t3", "expr: want a line a frame (-49 to +2), got 23 lines for 20 frames (+3)"),
    ("rows and frames", "too few", "va: want a line a frame (-49 to +2), got 10 lines for 60 frames (-50)"),
    ("rows and frames", "too many", "va: want a line a frame (-49 to +2), got 63 lines for 60 frames (+3)"),
    ("count", "expr all", "548 videos, got 6 in 6 streams"),
    ("count", "va all", "594 videos, got 17 in 22 streams"),
    ("count", "va test", "162 videos, got 4 in 4 streams"),
    ("count", "va train", "356 videos, got 9 in 13 streams"),
    ("count", "va validation", "76 videos, got 4 in 5 streams"),
    ("same content", "batch1/again (1).mp4", "has the bytes of new_vids/again.mp4 too"),
    ("same name", "batch1/1-30-1280x720.mp4", "batch1/1-30-1280x720.mp4 is taken, not batch2/1-30-1280x720.avi"),
    ("similar name", "Again", "Again | again | again (1) differ"),
    ("same annotation", "again", "au: the annotations of again, few have the same bytes"),
    ("same annotation", "solo_left", "have the same bytes; their videos have 60 frames of 96x64 each: one video twice?"),
    ("same annotation", "turned", "va: the annotations of turned, vary have the same bytes"),
    ("images", f"{CROPS}/cropped_aligned/10-60-1280x720", "got an empty folder: not in the manifest"),
    ("images", f"{CROPS}/cropped_aligned_new_50_vids/most", "want images of the video's 60 frames, got number 63"),
    ("images", f"{CROPS}/cropped_aligned_new_50_vids/most", "want numbers of frames as names, as in 00001.jpg, got 1 of other names"),
    ("images", f"{CROPS}/cropped_aligned_new_50_vids/t1", "want images numbered from 1, got number 0"),
    ("images", "video59", f"{CROPS}/cropped_aligned/video59 is taken, not {CROPS}/cropped_aligned_new_50_vids/video59"),
    ("mostly invalid", "video2", "va: 31 of 60 rows have no label"),
    ("tasks differ", "1-30-1280x720", "va train, expr validation"),
    ("tasks differ", "t1", "va test, au train"),
    ("unused video", "new_vids/nobody.mp4", "no stream is of this video"),
    ("not read", "Action_Unit_Detection_Challenge_test_set_release.txt", "line 3: want the name of a stream, got '?'"),
    ("not read", f"{VA}/lonely.txt", "want annotations in Train_Set, Validation_Set or Test_Set, got one outside of them"),
    ("not read", "prediction_files_format/CVPR_6th_ABAW_CE_test_set_sample.txt", "got 'image_location,Fearfully_Surprised'"),
]


# ---- the tree ----------------------------------------------------------------------------------------------------------------------------


def build(root: Path) -> Path:
    """Make the whole tree."""
    _videos(root)
    _annotations(root)
    _test_sets(root)
    crops = root / "cropped_aligned_images"
    images(crops / "cropped_aligned/1-30-1280x720", 2, 3, 5, 6, 9, 60)
    images(crops / "cropped_aligned/video59", *range(1, 61))
    images(crops / "cropped_aligned/video59_right", 1)  # tells that video59 is the left face
    images(crops / "cropped_aligned/10-60-1280x720")
    images(crops / "cropped_aligned_new_50_vids/t1", *range(63))
    images(crops / "cropped_aligned_new_50_vids/most", 1, 63)
    images(crops / "cropped_aligned_new_50_vids/video59", 1)
    (crops / "cropped_aligned_new_50_vids/most/cover.jpg").touch()
    (crops / "cropped_aligned_new_50_vids/most/._00001.jpg").touch()
    return root


def labels(path: Path, task: str, rows: int, invalid: int = 0, shift: int = 0) -> Path:
    """Write an annotation of so many rows, the first ones invalid; another shift makes other bytes of the same length."""
    t = TASKS[task]
    lines = [",".join([str(t.invalid)] * len(t.columns))] * invalid
    lines += [CELL[task].format((i + shift) / 1000, (i + shift) % 8, (i + shift) % 2) for i in range(invalid, rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([t.header, *lines]) + "\n")
    return path


def video(path: Path, **options) -> Path:
    """Write a clip of FRAMES frames at 25 a second, or as `clips.write` is told."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return clips.write(path, **{"count": FRAMES, **options})


def images(folder: Path, *numbers: int) -> None:
    """Make a folder of (empty) images."""
    folder.mkdir(parents=True)
    for number in numbers:
        (folder / f"{number:05d}.jpg").touch()


def template(path: Path, head: str, **rows: int) -> None:
    """Write the organisers' template: so many rows a stream."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{stream}/{i:05d}.jpg," for stream, count in rows.items() for i in range(1, count + 1)]
    path.write_text("\n".join([f"image_location,{head}", *lines]) + "\n")


def _videos(root: Path) -> None:
    for n, (name, options) in enumerate(VIDEOS.items()):
        quality = {} if "codec" in options else {"options": {"crf": str(20 + n)}}  # so that no two files have the same bytes
        video(root / name, **options, **quality)
    (root / "batch1/again (1).mp4").write_bytes((root / "new_vids/again.mp4").read_bytes())
    (root / "batch1/broken.mp4").write_bytes(b"no video at all" * 100)
    (root / "batch1/hollow.mp4").touch()
    (root / "batch1/._10-60-1280x720.mp4").write_bytes(b"x" * 100)
    (root / "__MACOSX/batch1").mkdir(parents=True)
    (root / "__MACOSX/batch1/10-60-1280x720.mp4").write_bytes(b"x" * 100)
    (root / "more").symlink_to("batch2")
    (root / "batch2/round").symlink_to(root)


def _annotations(root: Path) -> None:
    va, expr, au = (root / "Annotations" / folder for folder in ("VA_Estimation_Challenge", "EXPR_Set", "au_detection_challenge"))
    for shift, name in enumerate(("1-30-1280x720", "10-60-1280x720", "10-60-1280x720_right", "duet_left", "solo_left")):
        labels(va / f"Train_Set/{name}.txt", "va", FRAMES, invalid=shift, shift=shift)
    for name, rows in {"few": 11, "most": 62, "too few": 10, "too many": 63}.items():
        labels(va / f"Train_Set/{name}.txt", "va", rows)
    for shift, name in enumerate(("broken", "hollow", "lost", "Again"), 30):
        labels(va / f"Train_Set/{name}.txt", "va", FRAMES, shift=shift)
    (va / "Train_Set/._few.txt").write_bytes(b"\x00\x05")
    for shift, (name, invalid) in enumerate({"video2": 31, "video2_left": 0, "video59": 0, "turned": 0, "vary": 0}.items(), 20):
        labels(va / f"Validation_Set/{name}.txt", "va", FRAMES, invalid, min(shift, 23))  # turned and vary are the same
    labels(va / "lonely.txt", "va", 5)
    (va / "readme.txt").write_text("Thank you.\n")

    labels(expr / "Training_Set/duet_right.txt", "expr", FRAMES)
    labels(expr / "Validation_Set/1-30-1280x720.txt", "expr", FRAMES, invalid=3)
    labels(expr / "Training_Set/both.txt", "expr", SHORT)
    labels(expr / "Validation_Set/both.txt", "expr", SHORT, invalid=1)
    (expr / "Training_Set/10-60-1280x720.txt").write_text(TASKS["expr"].header + "\n0\n8\n")
    labels(root / "older/EXPR_Classification_Challenge/Train_Set/duet_right.txt", "expr", FRAMES, shift=1)

    labels(au / "Train_Set/again.txt", "au", FRAMES)
    labels(au / "Validation_Set/again (1).txt", "au", FRAMES, invalid=2)
    labels(au / "Train_Set/few.txt", "au", FRAMES)  # the same as again.txt, of another video of as many frames
    labels(au / "Train_Set/t1.txt", "au", FRAMES, shift=1)
    labels(au / "Train_Set/solo_left.txt", "au", FRAMES, shift=1)  # the same as t1.txt, of a video of as many frames and the same size


def _test_sets(root: Path) -> None:
    va = root / "Annotations/VA_Estimation_Challenge/Test_Set"
    labels(va / "t1.txt", "va", FRAMES, invalid=FRAMES)
    (va / "t2.txt").touch()
    (va / "names.txt").write_text("t3\r\nt4.mp4\r\n\r\n")
    format = root / "prediction_files_format"
    template(format / "CVPR_6th_ABAW_Expr_test_set_sample.txt", TASKS["expr"].header, t2=SHORT, t3=SHORT + 3)
    template(format / "CVPR_6th_ABAW_CE_test_set_sample.txt", "Fearfully_Surprised", t4=SHORT)
    (root / "Action_Unit_Detection_Challenge_test_set_release.txt").write_text("t3\nt4\n?\n")
    labels(root / "truth/Test_Set/t3.txt", "va", SHORT)  # nobody is to see it
