from offdiag.cli.main import FAILED, main


def test_explore_writes_one_page_where_it_is_told(tmp_path, capsys):
    out = tmp_path / "new" / "page.html"
    main(["theory", "explore", "--out", str(out)])
    assert out.read_text().startswith("<!DOCTYPE html>")
    assert str(out) in capsys.readouterr().out


def test_explore_refuses_a_folder_in_one_sentence(tmp_path, capsys):
    try:
        main(["theory", "explore", "--out", str(tmp_path)])
    except SystemExit as stopped:
        assert stopped.code == FAILED
    else:
        raise AssertionError("a folder was taken for a file")
    assert "it is a folder" in capsys.readouterr().err
