"""Small trees with the layout, the tables and the traps of public data sets.

Use as a script: `python public_sets.py NAME DIR`. All values are made up; files have a few
bytes, but for the DICOM headers that a reader needs.
"""

import io
import plistlib
import sys
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pydicom


def write(path: Path, content: str | bytes | None = None) -> Path:
    """Write a file; by default its own name, so that no two files are equal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = str(path) if content is None else content
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def mini_mias(root: Path) -> None:
    """Four women; rows that stand twice, a lesion without a place, an image with two lesions."""
    rows = [
        "mdb001 G CIRC B 535 425 197",
        "mdb002 G CIRC M 522 280 69",
        "mdb003 D NORM ",
        "mdb004 D NORM",
        "mdb005 F CALC B 477 133 30",
        "mdb005 F CIRC M 500 168 26",
        "mdb005 F CIRC M 500 168 26",
        "mdb006 F CALC M *NOTE 3*",
        "mdb007 G ARCH B 20 1000 40",
    ]
    head = "INFORMATION\n===========\n1st column: MIAS database reference number, such as mdb001.\n\n"
    write(root / "Info.txt", head + "\n".join(rows) + "\n")
    for number in range(1, 9):
        write(root / f"mdb{number:03d}.pgm")


def inbreast(root: Path) -> None:
    """Three women; a view FB, rows of totals, BI-RADS 3, a file without a row, single calcifications."""
    rows = [
        ("removed", "R", "CC", "200801", "20586908", "3", "4a"),
        ("removed", "R", "MLO", "200801", "20586934", "3 ", "5"),
        ("removed", "L", "CC", "200801", "20586960", "", "1"),
        ("removed", "L", "FB", "200901", "20587054", "1", "2"),
        ("removed", "L", "MLO", "200901", "20587080", "1", "3"),
        ("removed", "R", "CC", "201001", "20587148", "4", "6"),
    ]
    lines = ["Patient ID;Patient age;Laterality;View ;Acquisition date;File Name;ACR;Bi-Rads"]
    lines += [";".join((row[0], "removed", *row[1:])) for row in rows]
    write(root / "INbreast.csv", "\n".join([*lines, ";;;;Total;6;;", ";;;;;;;"]) + "\n")
    women = ["6c613a14b80a8591"] * 3 + ["8d0b9620c53c0268"] * 2 + ["036aff49b8ac84f0"]
    for woman, row in zip(women, rows, strict=True):
        view = {"CC": "CC"}.get(row[2], "ML")
        write(root / "AllDICOMs" / f"{row[4]}_{woman}_MG_{row[1]}_{view}_ANON.dcm")
    write(root / "AllDICOMs" / "20599999_036aff49b8ac84f0_MG_L_CC_ANON.dcm")
    regions = {
        "20586908": [
            ("Mass", ["(10.5, 20.25)", "(30.0, 25.0)", "(15.0, 60.75)"]),
            ("Calcification", ["(5, 5)"]),
        ],
        "20586934": [
            ("Cluster", ["(1, 2)", "(4, 2)", "(4, 8)"]),
            ("Spiculated Region", ["(7, 7)"] * 2 + ["(9, 9)"]),
        ],
        "20587054": [("Asymmetry", ["(1, 1)", "(2, 3)", "(3, 1)"])],
    }
    for number, outlines in regions.items():
        rois = [
            {"Name": name, "NumberOfPoints": len(points), "Point_px": points} for name, points in outlines
        ]
        content = {"Images": [{"ImageIndex": 0, "NumberOfROIs": len(rois), "ROIs": rois}]}
        write(root / "AllXML" / f"{number}.xml", plistlib.dumps(content))


def vindr_mammo(root: Path) -> None:
    """Four exams; BI-RADS 3, a view twice, a finding beyond the border, a positive image without a box."""
    breasts = [
        "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,split"
    ]
    findings = [
        "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,"
        "finding_categories,finding_birads,xmin,ymin,xmax,ymax,split"
    ]
    for exam, (birads, split) in enumerate(
        [((1, 4), "training"), ((3, 2), "training"), ((5, 1), "test"), ((2, 3), "training")]
    ):
        for side, grade in zip("LR", birads, strict=True):
            for view in ("CC", "MLO", *(["MLO"] if (exam, side) == (3, "L") else [])):
                image = f"{exam}{side}{view}{len(breasts):04d}"
                place = f"study{exam},series{exam},{image},{side},{view}"
                base = f"{place},3518,2800,BI-RADS {grade},DENSITY {'BC'[exam % 2]}"
                breasts.append(f"{base},{split}")
                write(root / "images" / f"study{exam}" / f"{image}.dicom")
                if grade >= 4 and view == "CC":
                    both = "\"['Mass', 'Suspicious Calcification']\""
                    findings.append(f"{base},{both},BI-RADS {grade},-3.5,100.25,2900,900.5,{split}")
                    findings.append(f"{base},['Mass'],BI-RADS 3,10,20,30,40,{split}")
                else:
                    findings.append(f"{base},['No Finding'],,,,,,{split}")
    write(root / "breast-level_annotations.csv", "\n".join(breasts) + "\n")
    write(root / "finding_annotations.csv", "\n".join(findings) + "\n")


NBIA = "CMMD/{woman}/07-18-2010-NA-NA-79377/1.000000-NA-70244/1-{number}.dcm"


def cmmd(root: Path, *, folder: str = NBIA) -> None:
    """Three women of two cohorts; a breast without a row, side and view in the headers only."""
    rows = [
        ("D1-0001", "R", 44, 2, "calcification", "Benign", None),
        ("D1-0002", "L", 40, 2, "mass", "Benign", None),
        ("D1-0002", "R", 40, 2, "both", "Malignant", None),
        ("D2-0001", "L", 61, 4, "mass", "Malignant", "Luminal A"),
    ]
    book = openpyxl.Workbook()
    book.active.append(["ID1", "LeftRight", "Age", "number", "abnormality", "classification", "subtype"])
    for row in rows:
        book.active.append(row)
    root.mkdir(parents=True, exist_ok=True)
    book.save(root / "CMMD_clinicaldata_revision.xlsx")
    for woman, sides in (("D1-0001", "R"), ("D1-0002", "LR"), ("D2-0001", "LR")):
        places = [(side, view) for side in sides for view in ("CC", "MLO")]
        for number, (side, view) in enumerate(places, start=1):
            header = {"PatientID": woman, "ImageLaterality": side, "Rows": 4, "Columns": 4}
            code = {"CC": "R-10242", "MLO": "R-10226"}[view]
            write(root / folder.format(woman=woman, number=number), dicom_header(header, view_code=code))


def dicom_header(tags: dict[str, object], *, view_code: str) -> bytes:
    """A DICOM file without pixels."""
    data = pydicom.Dataset()
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
    data.SOPInstanceUID = pydicom.uid.generate_uid()
    for tag, value in tags.items():
        setattr(data, tag, value)
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = view_code, "SRT", "view"
    data.ViewCodeSequence = [code]
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def rsna(root: Path) -> None:
    """Three women; density missing at site 2, BIRADS missing, views repeated and an axillary tail."""
    lines = [
        "site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,BIRADS,implant,density,"
        "machine_id,difficult_negative_case"
    ]
    images = [("L", "CC"), ("L", "MLO"), ("L", "MLO"), ("R", "CC"), ("R", "MLO"), ("R", "AT")]
    for woman, (site, sick) in enumerate([(1, "L"), (2, ""), (1, "")], start=10006):
        for number, (side, view) in enumerate(images):
            image, cancer = woman * 100 + number, int(side == sick)
            density, birads = ("B", "0") if site == 1 else ("", "")
            lines.append(
                f"{site},{woman},{image},{side},{view},61.0,{cancer},{cancer},{cancer},{birads},0,{density},"
                f"{29 if site == 1 else 48},False"
            )
            write(root / "train_images" / str(woman) / f"{image}.dcm")
    write(root / "train.csv", "\n".join(lines) + "\n")


def embed(root: Path) -> None:
    """Five women; 3D, synthetic and spot images, findings of both breasts, ROIs, a male breast."""
    head = (
        "empi_anon,acc_anon,study_date_anon,FinalImageType,ImageLateralityFinal,ViewPosition,spot_mag,num_roi"
    )
    metadata = [f"index,{head},ROI_coords,match_level,Manufacturer,cohort_num,anon_dicom_path"]
    breasts = [(woman, side) for woman in range(1, 6) for side in "LR"]
    rois = {
        (1, "L", "CC"): ('"((100, 20, 300, 80), (5, 6, 7, 8))"', '"[1, 2]"'),
        (2, "R", "MLO"): ('"((11, 12, 13, 14),)"', "1"),
    }
    for woman, side in breasts:
        images = [("2D", view, "") for view in ("CC", "MLO")]
        if (woman, side) == (1, "L"):
            images += [("3D", "CC", ""), ("cview", "CC", ""), ("2D", "ML", "1.0")]
        for number, (kind, view, spot) in enumerate(images):
            coords, match = rois.get((woman, side, view), ("()", "")) if not spot else ("()", "")
            name = f"1.2.826.0.1.{woman}{'LR'.index(side)}{number}.dcm"
            place = f"cohort_1/{woman}/exam{woman}/{name}"
            row = f"{len(metadata)},{woman},{woman}00,2015-03-0{woman},{kind},{side},{view},{spot},"
            row += f"{coords.count('(') - 1},{coords},{match},HOLOGIC,1,/mnt/emory/images/{place}"
            metadata.append(row)
            write(root / "images" / place)
    findings = [
        (1, "L", 1, "S", "0", 2), (1, "L", 2, "B", "4", 2), (1, "R", 1, "N", "", 2),
        (2, "B", 1, "B", "", 3), (2, "R", 2, "S", "3", 3),
        (3, "", 1, "N", "", 1),
        (4, "L", 1, "A", "", 4), (4, "R", 1, "K", "1", 4),
        (5, "L", 1, "N", "", 5),
    ]  # fmt: skip
    clinical = ["empi_anon,acc_anon,side,numfind,asses,path_severity,tissueden"]
    clinical += [
        f"{w},{w}00,{side},{n},{asses},{path},{tissue}" for w, side, n, asses, path, tissue in findings
    ]
    tables = root / "tables"
    write(tables / "EMBED_OpenData_metadata.csv", "\n".join(metadata) + "\n")
    write(tables / "EMBED_OpenData_clinical.csv", "\n".join(clinical) + "\n")


SETS: dict[str, Callable[[Path], None]] = {
    "mini_mias": mini_mias,
    "inbreast": inbreast,
    "vindr_mammo": vindr_mammo,
    "cmmd": cmmd,
    "rsna": rsna,
    "embed": embed,
}

if __name__ == "__main__":
    SETS[sys.argv[1]](Path(sys.argv[2]))
