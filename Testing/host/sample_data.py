"""The ``SampleData`` module as other modules use it (Modules/Scripted/SampleData/SampleData.py).

Downloading is left out: a source is fetched by its own ``customDownloader``, or from ``file:`` addresses.
"""

import inspect
import types
import urllib.parse
import urllib.request

import slicer
import slicer.util


class SampleDataSource:
    """One sample data set."""

    def __init__(
        self,
        sampleName=None,
        sampleDescription=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        checksums=None,
        loadFiles=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileTypes=None,
        loadFileProperties=None,
        loadFileType=None,
    ):
        if loadFileType is not None and loadFileTypes is not None:
            raise ValueError("loadFileType is the old name of loadFileTypes: give one of them")
        loadFileTypes = loadFileType if loadFileTypes is None else loadFileTypes
        self.sampleName = sampleName
        self.sampleDescription = sampleName if sampleDescription is None else sampleDescription
        self.customDownloader = customDownloader
        self.thumbnailFileName = thumbnailFileName
        self.loadFileProperties = loadFileProperties or {}
        if isinstance(uris, str):
            uris, fileNames, nodeNames = [uris], [fileNames], [nodeNames]
            checksums, loadFiles, loadFileTypes = [checksums], [loadFiles], [loadFileTypes]
        elif isinstance(uris, list | tuple):
            none = [None] * len(uris)
            if loadFileTypes is None or isinstance(loadFileTypes, str):
                loadFileTypes = [loadFileTypes] * len(uris)
            nodeNames, loadFiles, checksums = nodeNames or none, loadFiles or none, checksums or none
        self.uris, self.fileNames, self.nodeNames = uris, fileNames, nodeNames
        self.checksums, self.loadFiles, self.loadFileTypes = checksums, loadFiles, loadFileTypes
        fields = (uris, fileNames, nodeNames, checksums, loadFiles, loadFileTypes)
        if len({len(values) for values in fields}) != 1:
            raise ValueError("the lists of a sample data source differ in length")

    def __str__(self):
        return "\n".join(f"{name}: {value}" for name, value in vars(self).items())

    def __eq__(self, other):
        return str(self) == str(other)

    __hash__ = None


class SampleDataLogic:
    """Keeps ``slicer.modules.sampleDataSources`` and ``slicer.modules.sampleDataSourceCategories``."""

    def __init__(self, logMessage=None):
        self.logMessage = logMessage

    @staticmethod
    def registerCustomSampleDataCategory(category, title):
        _registry("sampleDataSourceCategories").setdefault(category, {})["title"] = title

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileTypes=None,
        loadFiles=None,
        loadFileProperties={},  # noqa: B006 (the argument names and defaults of Slicer)
        checksums=None,
        loadFileType=None,
    ):
        source = SampleDataSource(
            sampleName=sampleName,
            uris=uris,
            fileNames=fileNames,
            nodeNames=nodeNames,
            customDownloader=customDownloader,
            thumbnailFileName=thumbnailFileName,
            loadFileTypes=loadFileTypes,
            loadFiles=loadFiles,
            loadFileProperties=loadFileProperties,
            checksums=checksums,
            loadFileType=loadFileType,
        )
        sources = _registry("sampleDataSources").setdefault(category, [])
        if source not in sources:
            sources.append(source)

    @staticmethod
    def categoryTitle(category):
        return _registry("sampleDataSourceCategories").get(category, {}).get("title", category)

    @staticmethod
    def sampleDataSourcesByCategory(category=None):
        sources = _registry("sampleDataSources")
        return sources if category is None else sources.get(category, [])

    @staticmethod
    def isSampleDataSourceRegistered(category, sampleDataSource):
        if not isinstance(sampleDataSource, SampleDataSource):
            raise TypeError(f"{sampleDataSource!r} is no SampleDataSource")
        return sampleDataSource in SampleDataLogic.sampleDataSourcesByCategory(category)

    def sourceForSampleName(self, sampleName):
        for sources in _registry("sampleDataSources").values():
            for source in sources:
                if source.sampleName == sampleName:
                    return source
        return None

    def downloadFromSource(self, source, maximumAttemptsCount=3, forceDownload=False):
        nodes = []
        for uri, name, file_type in zip(source.uris, source.nodeNames, source.loadFileTypes, strict=True):
            address = urllib.parse.urlparse(uri)
            if address.scheme != "file":
                raise NotImplementedError(f"this host downloads nothing: {uri}")
            path = urllib.request.url2pathname(address.path)
            properties = {**source.loadFileProperties, **({"name": name} if name else {})}
            nodes.append(slicer.util.loadNodeFromFile(path, file_type or "VolumeFile", properties))
        return nodes


def _registry(name):
    if not hasattr(slicer.modules, name):
        setattr(slicer.modules, name, {})
    return getattr(slicer.modules, name)


def press_button(category, sample_name):
    """What the button of a sample in the SampleData module does."""
    for source in SampleDataLogic.sampleDataSourcesByCategory(category):
        if source.sampleName == sample_name:
            if source.customDownloader:
                return source.customDownloader(source)
            return SampleDataLogic().downloadFromSource(source)
    raise KeyError(f"no sample data '{sample_name}' in the category '{category}'")


def sample_data_module():
    """The module ``SampleData``."""
    module = types.ModuleType("SampleData", inspect.getdoc(SampleDataLogic))
    module.SampleDataSource, module.SampleDataLogic = SampleDataSource, SampleDataLogic
    return module
