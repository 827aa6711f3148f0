"""Capabilities of a small WMTS."""

SCALE_0 = 559082264.0287178


def matrix(name: str, scale: float, corner: str = "-20037508.342789 20037508.342789", side: int = 1) -> str:
    return (
        f"<TileMatrix><ows:Identifier>{name}</ows:Identifier><ScaleDenominator>{scale!r}</ScaleDenominator>"
        f"<TopLeftCorner>{corner}</TopLeftCorner><TileWidth>256</TileWidth><TileHeight>256</TileHeight>"
        f"<MatrixWidth>{side}</MatrixWidth><MatrixHeight>{side}</MatrixHeight></TileMatrix>"
    )


def document(url: str = "http://h", matrices: str = "", crs: str = "urn:ogc:def:crs:EPSG::900913") -> bytes:
    return f"""<?xml version="1.0"?>
<Capabilities xmlns="http://www.opengis.net/wmts/1.0" xmlns:ows="http://www.opengis.net/ows/1.1"
 xmlns:xlink="http://www.w3.org/1999/xlink" version="1.0.0">
<ows:OperationsMetadata><ows:Operation name="GetTile"><ows:DCP><ows:HTTP><ows:Get xlink:href="{url}/kvp?">
 <ows:Constraint name="GetEncoding"><ows:AllowedValues><ows:Value>KVP</ows:Value></ows:AllowedValues>
 </ows:Constraint></ows:Get></ows:HTTP></ows:DCP></ows:Operation></ows:OperationsMetadata>
<Contents><Layer><ows:Title>Alps</ows:Title><ows:Identifier>alps</ows:Identifier>
 <ows:WGS84BoundingBox><ows:LowerCorner>-180 -85</ows:LowerCorner><ows:UpperCorner>180 85</ows:UpperCorner>
 </ows:WGS84BoundingBox>
 <Style><ows:Identifier>night</ows:Identifier></Style>
 <Style isDefault="true"><ows:Identifier>day</ows:Identifier></Style>
 <Format>image/jpeg</Format><Format>image/png</Format>
 <Dimension><ows:Identifier>Time</ows:Identifier><Default>2020</Default><Value>2019</Value><Value>2020</Value>
 </Dimension>
 <TileMatrixSetLink><TileMatrixSet>goog</TileMatrixSet><TileMatrixSetLimits><TileMatrixLimits>
  <TileMatrix>01</TileMatrix><MinTileRow>0</MinTileRow><MaxTileRow>0</MaxTileRow><MinTileCol>1</MinTileCol>
  <MaxTileCol>1</MaxTileCol></TileMatrixLimits></TileMatrixSetLimits></TileMatrixSetLink>
 <ResourceURL format="image/png" resourceType="tile"
  template="{url}/alps/{{style}}/{{Time}}/{{TileMatrixSet}}/{{TileMatrix}}/{{TileCol}}/{{TileRow}}.png"/>
 </Layer>
 <TileMatrixSet><ows:Identifier>goog</ows:Identifier><ows:SupportedCRS>{crs}</ows:SupportedCRS>
 {matrices or matrix("00", SCALE_0) + matrix("01", SCALE_0 / 2, side=2)}</TileMatrixSet></Contents>
</Capabilities>""".encode()
